package main

import (
	"bytes"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestPrintMoment: a chain and an RPO are printed where there are any.
func TestPrintMoment(t *testing.T) {
	for want, p := range map[string]pgmedic.PITR{
		`  moment           the end of the stored WAL
  timeline         1
  base backup      1.0 KiB
  WAL              0 B, commits in it: 0
  time to recover  fetch 0 s, replay 0 s, open 0 s
`: {Chain: []string{"only"}},
		`  moment           the end of the stored WAL
  timeline         1
  chain            newest, full
  base backup      1.0 KiB
  WAL              0 B, commits in it: 0
  time to recover  fetch 0 s, replay 0 s, open 0 s
  RPO              1 min 30 s, from the newest moment that can be recovered to the drill
`: {Chain: []string{"newest", "full"}, RPOSeconds: new(90.0)},
	} {
		var out bytes.Buffer
		cmd := momentCommand{drillCommand: drillCommand{job: job{env: &env{stdout: &out, rawOut: &out, stdoutWidth: func() int { return 0 }}}}}
		p.Target, p.Timeline, p.BaseBytes = "the end of the stored WAL", 1, 1024
		cmd.printMoment(&pgmedic.Receipt{PITR: &p})
		if out.String() != want {
			t.Errorf("printed\n%s, want\n%s", out.String(), want)
		}
	}
}
