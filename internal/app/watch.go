package app

import (
	"context"
	"time"

	"github.com/gatebook/gatebook/internal/config"
)

// watchEvery is how often the configuration's files are looked at. A change counts once two looks in a row are
// alike, so that files that are being written are not read halfway.
const watchEvery = time.Second

// watchFiles reloads the configuration when its files have changed. One that cannot be loaded is tried again when
// they change again.
func (a *App) watchFiles(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	// What was loaded may be older than the files are now: the first look reads them.
	tried, last := "", ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		cfg := a.config()
		if cfg.Reload == config.ReloadOnSignal {
			continue
		}
		now := cfg.Stamp()
		if now == tried || now != last {
			last = now
			continue
		}
		tried = now
		if c, err := config.Load(cfg.Path); err == nil && c.SHA256 == cfg.SHA256 {
			continue // touched, or loaded on a signal before
		}
		if err := a.Reload(ctx); err != nil {
			a.log.Error("reload", "err", err, "cause", "the files have changed")
		}
		tried = a.config().Stamp() // other files may be included now
	}
}

// config returns the configuration in force.
func (a *App) config() *config.Loaded {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}
