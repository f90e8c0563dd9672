package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

func TestMutes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `report:
  mute:
    - finding: index-unused
      object: "public.*"
      reason: the new release uses them
      until: 2027-01-31
    - {finding: deadlocks, reason: known, until: 2027-02-01}
`)
	cfg, err := config.Load(config.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Mute{
		Finding: "index-unused", Object: "public.*", Reason: "the new release uses them",
		Until: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC),
	}
	if got := cfg.Report.Mute; len(got) != 2 || got[0] != want || got[1].Object != "" {
		t.Errorf("%+v", got)
	}
}

func TestMutesThatSayTooLittleAreRefused(t *testing.T) {
	for name, tt := range map[string]struct{ item, want string }{
		"no finding":    {"reason: x, until: 2027-01-31", "has no finding"},
		"no reason":     {"finding: x, until: 2027-01-31", "has no reason"},
		"no end":        {"finding: x, reason: y", "has no day"},
		"no such day":   {"finding: x, reason: y, until: 2027-02-31", "has no day"},
		"for ever":      {"finding: x, reason: y, until: never", "has no day"},
		"misspelt":      {"findng: x, reason: y, until: 2027-01-31", "unknown key in report.mute"},
		"bad pattern":   {"finding: x, object: '[', reason: y, until: 2027-01-31", "not a pattern"},
		"not a mapping": {"x", "report.mute"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			item := "{" + tt.item + "}"
			if name == "not a mapping" {
				item = tt.item
			}
			write(t, dir, "pgmedic.yaml", "report:\n  mute:\n    - "+item+"\n")
			_, err := config.Load(config.Options{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) || pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("%v", err)
			}
		})
	}
}
