package sqlscan

import "sync"

// Cache keeps what was computed of texts. It forgets the texts that were not
// asked for again while a generation filled. It is safe for concurrent use.
type Cache[T any] struct {
	// Bytes bounds the texts of one generation; two are kept.
	Bytes int
	// Make computes the value of a text. It may run more than once for the same text.
	Make func(text string) T

	mu       sync.RWMutex
	young    map[string]T
	old      map[string]T
	youngLen int
}

// largeText is the size of a text from which on it is not kept, in bytes: it is not likely to come again.
const largeText = 16 << 10

// Get returns the value of a text.
func (c *Cache[T]) Get(text string) T {
	if len(text) > largeText {
		return c.Make(text)
	}
	c.mu.RLock()
	v, ok := c.young[text]
	if ok {
		c.mu.RUnlock()
		return v
	}
	v, ok = c.old[text]
	c.mu.RUnlock()
	if !ok {
		v = c.Make(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || c.youngLen+len(text) > c.Bytes {
		c.young, c.old, c.youngLen = map[string]T{}, c.young, 0
	}
	if _, ok := c.young[text]; !ok {
		c.youngLen += len(text)
	}
	c.young[text] = v
	return v
}

// Clear forgets everything.
func (c *Cache[T]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old, c.youngLen = nil, nil, 0
}
