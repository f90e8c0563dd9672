package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/shrunk"
)

// TestConfirmShrunk: a backup that has far less than those before it is restored only by
// somebody who says so.
func TestConfirmShrunk(t *testing.T) {
	const id, before = "20261122T020000Z-7f3a9c", "20261121T020000Z-5c0a77"
	fall := &shrunk.Fall{Before: before, RowsBefore: 2000, Rows: 100}
	for name, test := range map[string]struct {
		fall     *shrunk.Fall
		flags    restoreFlags
		terminal bool
		yes      bool
		typed    string
		want     pgmedic.Kind // KindFailed is no error
		said     string
	}{
		"as much as before":     {nil, restoreFlags{}, false, false, "", pgmedic.KindFailed, ""},
		"accepted":              {fall, restoreFlags{acceptShrunk: true}, false, false, "", pgmedic.KindFailed, ""},
		"a dry run":             {fall, restoreFlags{dryRun: true}, false, false, "", pgmedic.KindFailed, "far less than those before it"},
		"no terminal":           {fall, restoreFlags{}, false, false, "", pgmedic.KindNotConfirmed, ""},
		"no terminal, and yes":  {fall, restoreFlags{}, false, true, "", pgmedic.KindNotConfirmed, ""},
		"confirmed":             {fall, restoreFlags{}, true, false, "restore 7f3a9c\n", pgmedic.KindFailed, before},
		"confirmed as asked":    {fall, restoreFlags{}, true, true, "restore 7f3a9c\n", pgmedic.KindFailed, before},
		"yes is no answer":      {fall, restoreFlags{}, true, true, "yes\n", pgmedic.KindNotConfirmed, "95 % fewer rows (100 instead of 2,000)"},
		"nothing is no answer":  {fall, restoreFlags{}, true, false, "", pgmedic.KindNotConfirmed, before},
		"the other is not this": {fall, restoreFlags{}, true, false, "restore 5c0a77\n", pgmedic.KindNotConfirmed, before},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			e := &env{stdin: strings.NewReader(test.typed), stderr: &out, stdinTTY: test.terminal, global: globalFlags{yes: test.yes}}
			cmd := restoreCommand{job: job{env: e, log: slog.New(slog.NewTextHandler(&out, nil))}, flags: test.flags}
			err := cmd.confirmShrunk(t.Context(), catalog.Entry{Backup: &pgmedic.Backup{ID: id}, Shrunk: test.fall})
			if test.want == pgmedic.KindFailed && err != nil || test.want != pgmedic.KindFailed && pgmedic.KindOf(err) != test.want {
				t.Errorf("%v", err)
			}
			if test.said == "" && out.Len() > 0 || !strings.Contains(out.String(), test.said) {
				t.Errorf("it says %q", &out)
			}
			if err != nil && !test.terminal && (!strings.Contains(err.Error(), before) || !strings.Contains(pgmedic.HintOf(err), before)) {
				t.Errorf("%v, hint %q", err, pgmedic.HintOf(err))
			}
		})
	}
}
