package app

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/secret"
)

// masks are those of one configuration. Safe for concurrent use.
type masks struct {
	rules []*mask.Rule
	find  *detect.Set
	key   []byte
	when  rules

	mu    sync.Mutex
	sets  map[string]*mask.Set // by target and names of rules
	named map[string]*mask.Set // by target
}

// newMasks builds the masks of a configuration, nil if it has none. It reads their key.
func newMasks(c *config.Loaded) (enforce.Masks, error) {
	if len(c.MaskRules) == 0 {
		return nil, nil
	}
	var key []byte
	if c.MaskKey != "" {
		ref, err := secret.ParseRef(c.MaskKey, c.Dir)
		if err != nil {
			return nil, err
		}
		text, err := ref.Load()
		if err != nil {
			return nil, fmt.Errorf("mask_key: %w", err)
		}
		key = []byte(text.Reveal())
	}
	m := &masks{when: rules{c.MaskWhen}, find: c.Detect, key: key, sets: map[string]*mask.Set{}, named: map[string]*mask.Set{}}
	for i := range c.MaskRules {
		r := c.MaskRules[i]
		r.Key = key
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("mask %s: %w", r.Name, err)
		}
		m.rules = append(m.rules, &r)
	}
	return m, nil
}

// Named implements enforce.Masks.
func (m *masks) Named(target string) *mask.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, ok := m.named[target]
	if !ok {
		var list []*mask.Rule
		for _, rule := range m.rules {
			if rule.Targets == nil || slices.Contains(rule.Targets, target) {
				list = append(list, rule)
			}
		}
		set = mask.NewSet(list, nil, m.find)
		m.named[target] = set
	}
	return set
}

// For implements enforce.Masks.
func (m *masks) For(r *access.Request) *mask.Set {
	matched := m.when.Decide(r).Matched
	var list, exempt []*mask.Rule
	for _, rule := range m.rules {
		switch {
		case rule.Targets != nil && !slices.Contains(rule.Targets, r.Target.Name):
		case slices.Contains(matched, rule.Name):
			list = append(list, rule)
		default:
			exempt = append(exempt, rule)
		}
	}
	key := r.Target.Name
	for _, rule := range list {
		key += "\x00" + rule.Name
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	set, ok := m.sets[key]
	if !ok {
		set = mask.NewSet(list, exempt, m.find)
		m.sets[strings.Clone(key)] = set
	}
	return set
}

// cellKey returns the key of a masked cell by the configuration in force.
func cellKey(gate *enforce.Gate) func(session string, exchange, cell uint64) ([]byte, bool) {
	return func(session string, exchange, cell uint64) ([]byte, bool) {
		m, ok := gate.Snapshot().Masks.(*masks)
		if !ok {
			return nil, false
		}
		cells := mask.NewCells(m.key, session, exchange)
		if cells == nil {
			return nil, false
		}
		key := cells.Key(cell)
		return key[:], true
	}
}
