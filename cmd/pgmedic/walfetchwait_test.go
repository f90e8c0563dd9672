package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgmedic/pgmedic"
)

// TestFetchPatience: a store that is away is asked again for as long as --wait says, and
// nothing else is.
func TestFetchPatience(t *testing.T) {
	away := &pgmedic.Error{Kind: pgmedic.KindUnreachable, Temporary: true, Err: errors.New("no route")}
	refused := pgmedic.Errorf(pgmedic.KindUnreachable, "", "refused")
	absent := &statusError{fetchAbsent}
	for name, test := range map[string]struct {
		wait    time.Duration
		answers []error // the last again and again
		want    error
		asked   int
		took    time.Duration
	}{
		"there":              {time.Minute, []error{nil}, nil, 1, 0},
		"back":               {time.Minute, []error{away, away, nil}, nil, 3, 2 * fetchPause},
		"back, and the end":  {time.Minute, []error{away, absent}, absent, 2, fetchPause},
		"away for too long":  {10 * time.Second, []error{away}, away, 6, 5 * fetchPause},
		"asked once":         {0, []error{away}, away, 1, 0},
		"refused":            {time.Minute, []error{refused}, refused, 1, 0},
		"away, then refused": {time.Minute, []error{away, refused}, refused, 2, fetchPause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cmd := &walFetchCommand{wait: test.wait}
				cmd.log = slog.New(slog.DiscardHandler)
				began, asked := time.Now(), 0
				err := cmd.patient(t.Context(), func(context.Context) error {
					asked++
					return test.answers[min(asked, len(test.answers))-1]
				})
				if !errors.Is(err, test.want) || asked != test.asked || time.Since(began) != test.took {
					t.Errorf("%v, asked %d times in %s", err, asked, time.Since(began))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told strings.Builder
		cmd := &walFetchCommand{wait: time.Hour}
		cmd.log = slog.New(slog.NewTextHandler(&told, nil))
		time.AfterFunc(time.Minute, cancel)
		err := cmd.patient(ctx, func(context.Context) error { return away })
		if pgmedic.KindOf(err) != pgmedic.KindInterrupted || strings.Count(told.String(), "\n") != 1 {
			t.Errorf("interrupted: %v\n%s", err, told.String())
		}
	})
}
