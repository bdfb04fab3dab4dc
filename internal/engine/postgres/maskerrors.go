package postgres

import (
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// safeClasses are classes of SQLSTATE whose messages name what the agent wrote, or the state of the server, and no values of rows.
var safeClasses = map[string]bool{
	"08": true, "0A": true, "25": true, "26": true, "28": true, "34": true, "3B": true, "3D": true, "3F": true, "40": true, "42": true, "53": true, "54": true,
	"55": true, "57": true, "58": true,
}

// withheld returns an ErrorResponse or NoticeResponse without what may hold values of masked columns: its severity, its SQLSTATE and
// the names that it gives stay.
func withheld(frame []byte, safe bool) []byte {
	f, _ := pgwire.ParseFields(frame[pgwire.FrameHeader:])
	safe = safe && len(f.Code) == 5 && safeClasses[f.Code[:2]]
	out, at := pgwire.BeginFrame(nil, frame[0])
	for c := pgwire.NewCursor(frame[pgwire.FrameHeader:]); c.Left() > 0; {
		typ := c.Byte()
		if typ == 0 {
			break
		}
		text := c.String()
		if c.Bad() {
			break
		}
		switch typ {
		case 'D', 'W', 'q':
			continue
		case 'H':
			if !safe {
				continue
			}
		case 'M':
			if !safe {
				text = []byte("gatebook: the message is withheld: it may hold values of masked columns (mask)")
			}
		}
		out = append(append(append(out, typ), text...), 0)
	}
	return pgwire.EndFrame(append(out, 0), at)
}

// hides returns an error or notice as the agent may see it. ex is what it is about, nil for nothing of the agent's.
func (p *answers) hides(frame []byte, ex *exch) []byte {
	set := p.r.s.Masks()
	if set == nil || ex != nil && ex.silent {
		return frame
	}
	if set.Columns() {
		m := (*masking)(nil)
		if ex != nil {
			m = ex.current()
		}
		switch {
		case frame[0] == 'A': // other sessions' words
			return hideNotification(frame)
		case m != nil && !m.Touches && !m.Writes:
		default:
			frame = withheld(frame, ex == nil || m != nil && !m.Writes)
		}
	}
	if values := set.Values(); values != nil {
		return hideValues(values, frame)
	}
	return frame
}

// hideNotification takes the payload out of a NotificationResponse.
func hideNotification(frame []byte) []byte {
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	pid, channel := c.Bytes(4), c.String()
	out, at := pgwire.BeginFrame(nil, 'A')
	out = append(append(append(out, pid...), channel...), 0, 0)
	return pgwire.EndFrame(out, at)
}
