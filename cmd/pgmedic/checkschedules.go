package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkSchedules says whether something starts the jobs that the configuration wants
// started, as far as this account can see.
func (cmd *checkCommand) checkSchedules(ctx context.Context, l *checklist) {
	const name = "schedules"
	p, install := cmd.plan, "pgmedic schedule install"
	if p.host.Source() == "" && p.byDefault {
		return // defaults alone: nothing that a job could read
	}
	configured := fmt.Sprintf("%d in %s", len(p.plan), filepath.Base(p.host.Source()))
	if p.byDefault {
		configured = "none configured"
	}
	found, unknown := p.installed(ctx)
	not := ""
	if len(unknown) > 0 {
		not = "; not checked: " + strings.Join(unknown, "; ")
	}
	switch {
	case cmd.planErr != nil:
		l.add(name, pgmedic.OutcomeSkipped, "not checked: "+words.OneLine(cmd.planErr.Error()), pgmedic.HintOf(cmd.planErr))
	case len(found) == 0 && p.byDefault:
		l.add(name, pgmedic.OutcomeSkipped, configured+", and none installed that this account can see"+not, "`"+install+"` installs a nightly backup, a daily prune, a weekly report and a weekly clean-up")
	case len(found) == 0:
		l.add(name, pgmedic.OutcomeWarn, configured+"; pgmedic starts nothing by itself, and nothing is installed in this account's crontab or with systemd"+not, install)
	case len(found) > 1:
		l.add(name, pgmedic.OutcomeWarn, configured+"; installed twice, "+found[0].where+" and "+found[1].where+": jobs run twice", "`pgmedic schedule uninstall`, then `"+install+"`")
	case found[0].problem != "":
		l.add(name, pgmedic.OutcomeWarn, configured+"; "+found[0].where+" "+found[0].problem+not, install)
	default:
		l.ok(name, "%s; installed %s, as configured%s", configured, found[0].where, not)
	}
}

// installation is what is installed in one place.
type installation struct {
	where string
	// problem says what is wrong with it, or is empty.
	problem string
}

// installed finds what is installed for this configuration, and says where it could not
// look.
func (p planner) installed(ctx context.Context) (found []installation, unknown []string) {
	source := p.host.Source()
	add := func(where string, state schedule.Installed) {
		switch state {
		case schedule.InstalledNot:
		case schedule.InstalledSame:
			found = append(found, installation{where, ""})
		case schedule.InstalledOther:
			found = append(found, installation{where, "is not what the configuration says"})
		case schedule.InstalledEdited:
			found = append(found, installation{where, "was changed by hand"})
		}
	}
	if tab, err := findCrontab(p.environ); err != nil {
		unknown = append(unknown, "crontab, of which there is no program")
	} else if text, err := tab.read(ctx); err != nil {
		unknown = append(unknown, words.OneLine(err.Error()))
	} else if block, err := schedule.FindBlock(text, source, p.plan); err != nil {
		found = append(found, installation{"in this account's crontab", "is damaged: " + words.OneLine(err.Error())})
	} else if name := block.Above.Disturbing; name != "" && block.State == schedule.InstalledSame {
		found = append(found, installation{"in this account's crontab", "is below a line that sets " + name + ", which changes when or how its jobs run"})
	} else {
		add("in this account's crontab", block.State)
	}
	inCrontab := len(found) > 0
	for _, dir := range p.unitFolders() {
		files, err := dir.read()
		if err != nil {
			unknown = append(unknown, words.OneLine(err.Error()))
			continue
		}
		if inCrontab {
			if problem, alone := p.streamBeside(dir, files, source); alone {
				found[0].problem += problem
				continue
			}
		}
		state := schedule.CompareUnits(files, source, p.plan, p.cfg.WAL.Stream)
		where := "with systemd in " + dir.path
		if state == schedule.InstalledSame {
			for _, e := range p.plan {
				timer := schedule.UnitPrefix + e.Name + ".timer"
				if _, err := os.Lstat(filepath.Join(dir.path, "timers.target.wants", timer)); err != nil {
					found, state = append(found, installation{where, "has the timer " + timer + ", which is not enabled"}), schedule.InstalledNot
					break
				}
			}
		}
		if state == schedule.InstalledSame && p.cfg.WAL.Stream && !dir.streamEnabled() {
			found, state = append(found, installation{where, "has the service " + schedule.StreamUnit + ", which is not enabled"}), schedule.InstalledNot
		}
		add(where, state)
	}
	return found, unknown
}
