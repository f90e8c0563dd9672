package main

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
)

// TestClocksStop: nothing is deleted in a store whose clock is not this host's, and the
// clock is asked for only where something is to be written.
func TestClocksStop(t *testing.T) {
	mark := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Mark}}}}
	keep := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Keep}, {Verdict: retention.Wait}}}}
	for name, test := range map[string]struct {
		ahead time.Duration
		plan  []retention.Series
		stops bool
	}{
		"right":             {0, mark, false},
		"ahead":             {time.Hour, mark, true},
		"behind":            {-time.Hour, mark, true},
		"nothing to delete": {time.Hour, keep, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			a := &app{now: func() time.Time { return time.Now().Add(test.ahead) }}
			stores := retained{{StoreOf: config.StoreOf{Name: "a"}, catalog: catalog.New(s)}}
			if stopped := a.checkClocks(t.Context(), stores, test.plan, nil); stopped != test.stops || (stores[0].stop != "") != test.stops {
				t.Errorf("stopped %t: %q", stopped, stores[0].stop)
			}
			if p := stores.policies(0, ""); (p[0].Stop != "") != test.stops {
				t.Errorf("the plan stops for %q", p[0].Stop)
			}
		})
	}
}

// TestUnreadStoreStopsAll: what can't be read counts everywhere.
func TestUnreadStoreStopsAll(t *testing.T) {
	stores := retained{{StoreOf: config.StoreOf{Name: "a"}}, {StoreOf: config.StoreOf{Name: "b"}, err: store.ErrNotFound}}
	if p := stores.policies(0, ""); len(p) != 1 || p[0].Name != "a" || p[0].Stop == "" || p[0].Hint == "" {
		t.Errorf("%+v", p)
	}
}
