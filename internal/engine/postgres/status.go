package postgres

import (
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// status handles a ParameterStatus: what is pinned may not change, and the
// agent sees the application_name that it chose.
func (p *answers) status(frame []byte) error {
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	name, value := string(c.String()), string(c.String())
	if want, ok := pinned[name]; ok && value != want {
		return &access.DenyError{
			Code: access.CodeUnsupported, Rule: "pinned." + name,
			Reason: name + " was changed; it is pinned to " + want,
			Hint:   "The session ends because gateway and target would read the same bytes differently.",
		}
	}
	if slices.Contains(previewed, name) {
		p.r.mu.Lock()
		if p.r.reported == nil {
			p.r.reported = map[string]string{}
		}
		p.r.reported[name] = value
		p.r.mu.Unlock()
	}
	if values := p.r.s.Masks().Values(); values != nil {
		value = string(hiddenText(values, []byte(value)))
		frame = appendStatus(nil, name, value)
	}
	if name != "application_name" {
		return p.unasked(frame)
	}
	return p.nameChanged(value)
}

// nameChanged handles a new application_name at the target. The agent sees
// what it would see if nothing stood before its own name.
func (p *answers) nameChanged(value string) error {
	r := p.r
	prefix := "gb:" + r.s.ID().String()
	r.mu.Lock()
	shown := value
	ours := value == prefix || strings.HasPrefix(value, prefix+" ")
	if ours {
		shown = strings.TrimPrefix(strings.TrimPrefix(value, prefix), " ")
		for _, full := range []string{r.name, r.firstName} {
			if value == r.prefixed(full) {
				shown = full // the target cut it
				break
			}
		}
	} else {
		r.nameDue.Store(true)
	}
	same := shown == r.name
	r.name = shown
	r.mu.Unlock()
	if !ours && !same { // once: a target may say it again and again
		if _, err := r.s.Note("application_name", value); err != nil {
			return err
		}
	}
	if same {
		return nil
	}
	return p.unasked(appendStatus(nil, "application_name", shown))
}
