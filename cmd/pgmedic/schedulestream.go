package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// streamNote is a note about the service that streams WAL.
func streamNote(text string) schedule.Note {
	return schedule.Note{Entry: schedule.StreamName, Text: text}
}

// slotStays says what is left of a stream whose service is removed.
const slotStays = "its replication slot stays and keeps WAL on the server, until its disk is full: stream again, or run `pgmedic wal stream --drop-slot`"

// cronNotes are what cron does not do of this configuration.
func (p planner) cronNotes(notes []schedule.Note) []schedule.Note {
	if p.cfg.WAL.Stream {
		notes = append(notes, streamNote(schedule.CronStreamNote))
	}
	return notes
}

// planWords counts what is installed with systemd.
func (p planner) planWords() string {
	if p.cfg.WAL.Stream {
		return words.Plural(len(p.plan), "schedule") + " and the stream of WAL"
	}
	return words.Plural(len(p.plan), "schedule")
}

// withoutStream leaves out the unit of the stream, which goes with schedules in a crontab,
// too.
func withoutStream(files []schedule.File) []schedule.File {
	return slices.DeleteFunc(slices.Clone(files), func(f schedule.File) bool { return f.Name == schedule.StreamUnit })
}

// startStream enables the stream's service and starts it again, so that it takes new
// settings.
func (d unitFolder) startStream(ctx context.Context, environ []string) error {
	for _, verb := range []string{"enable", "restart"} {
		if err := d.systemctl(ctx, environ, verb, schedule.StreamUnit); err != nil {
			return err
		}
	}
	return nil
}

// streamEnabled reports whether the service starts with the machine, or with this account's
// manager.
func (d unitFolder) streamEnabled() bool {
	target := "multi-user.target.wants"
	if d.user {
		target = "default.target.wants"
	}
	_, err := os.Lstat(filepath.Join(d.path, target, schedule.StreamUnit))
	return err == nil
}

// streamBeside compares the service of the stream, where it is all that is installed with
// systemd because the schedules are in a crontab. It is false where there is more than that.
func (p planner) streamBeside(d unitFolder, files []schedule.File, source string) (problem string, alone bool) {
	if schedule.CompareUnits(withoutStream(files), source, nil, false) != schedule.InstalledNot {
		return "", false
	}
	switch schedule.CompareUnits(files, source, nil, p.cfg.WAL.Stream) {
	case schedule.InstalledNot:
		return "", true
	case schedule.InstalledSame:
		if !d.streamEnabled() {
			return fmt.Sprintf("; the service %s in %s is not enabled", schedule.StreamUnit, d.path), true
		}
		return "", true
	case schedule.InstalledEdited:
		return fmt.Sprintf("; the service %s in %s was changed by hand", schedule.StreamUnit, d.path), true
	case schedule.InstalledOther:
	}
	return fmt.Sprintf("; the service %s in %s is not what the configuration says", schedule.StreamUnit, d.path), true
}

// checkStreamSlot refuses a stream in a pod whose slot would have the pod's name, which is
// another one after each start.
func (cmd *scheduleKubernetesCommand) checkStreamSlot() error {
	if cmd.cfg.WAL.Stream && cmd.cfg.WAL.Slot == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "set wal.slot (PGMEDIC_WAL_SLOT), such as pgmedic_clinic",
			"wal.stream in Kubernetes takes a slot with a name: each pod would make one of its own, and those of the pods before it would fill the server's disk")
	}
	if cmd.cfg.WAL.Stream && cmd.cfg.WAL.Sync {
		return pgmedic.Errorf(pgmedic.KindUsage, "run the stream with wal.sync on a machine: `pgmedic schedule install`", "wal.sync does not go with a pod, whose disk is lost with it")
	}
	return nil
}
