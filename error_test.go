package pgmedic_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestKindOf: that the work is done is said only if every joined error says so.
func TestKindOf(t *testing.T) {
	plain := errors.New("the disk is full")
	degraded := pgmedic.Errorf(pgmedic.KindDegraded, "", "done, and not copied")
	unreachable := fmt.Errorf("list: %w", pgmedic.Errorf(pgmedic.KindUnreachable, "", "no route"))
	for name, test := range map[string]struct {
		err  error
		want pgmedic.Kind
	}{
		"nothing":                       {nil, pgmedic.KindFailed},
		"plain":                         {plain, pgmedic.KindFailed},
		"cancelled":                     {fmt.Errorf("read: %w", context.Canceled), pgmedic.KindInterrupted},
		"wrapped":                       {unreachable, pgmedic.KindUnreachable},
		"the outermost":                 {pgmedic.Errorf(pgmedic.KindDegraded, "", "done: %w", unreachable), pgmedic.KindDegraded},
		"plain and degraded":            {errors.Join(plain, degraded), pgmedic.KindFailed},
		"degraded and plain":            {errors.Join(degraded, plain), pgmedic.KindFailed},
		"degraded and unreachable":      {errors.Join(degraded, unreachable), pgmedic.KindUnreachable},
		"plain and unreachable":         {errors.Join(plain, unreachable), pgmedic.KindUnreachable},
		"cancelled and degraded":        {errors.Join(degraded, context.Canceled), pgmedic.KindInterrupted},
		"degraded twice":                {errors.Join(degraded, nil, degraded), pgmedic.KindDegraded},
		"nested":                        {errors.Join(errors.Join(plain, degraded), unreachable), pgmedic.KindUnreachable},
		"nested plain":                  {fmt.Errorf("prune: %w", errors.Join(degraded, errors.Join(degraded, plain))), pgmedic.KindFailed},
		"two in a text":                 {fmt.Errorf("%w, and %w", degraded, plain), pgmedic.KindFailed},
		"wrapped in one that is typed":  {pgmedic.Errorf(pgmedic.KindConflict, "", "busy: %w", errors.Join(plain, degraded)), pgmedic.KindConflict},
		"the first of two that say why": {errors.Join(unreachable, pgmedic.Errorf(pgmedic.KindUsage, "", "no")), pgmedic.KindUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pgmedic.KindOf(test.err); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
