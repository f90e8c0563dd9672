package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgconf"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const autoConfig = pgconf.AutoFile

// configure writes what has PostgreSQL recover to the target.
func (r *restore) configure(ctx context.Context, done *Done) error {
	done.Configured = r.listed.configured
	if spaces := tablespaceMap(r.Plan.Tablespaces, r.Source.Backup.Physical.Tablespaces); spaces != "" {
		if err := r.tree.writeFile("tablespace_map", spaces); err != nil {
			return err
		}
	}
	if err := r.serverManifest(ctx); err != nil {
		return err
	}
	c := r.preview.Configuration
	if err := r.editConfig(autoConfig, settings(r.Plan, r.RestoreCommand, c.more)); err != nil {
		return err
	}
	files := slices.Clone(c.files)
	if r.listed.configured {
		files = append(files, pgconf.MainFile) // whether it was read or not
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(files))) {
		if name == autoConfig {
			continue
		}
		if err := r.editConfig(name, ""); err != nil {
			return err
		}
	}
	return r.tree.writeFile("recovery.signal", "")
}

// oldSetting matches, in a file of settings, a recovery target, what has PostgreSQL open
// another folder than the one that it is started on, and what has it write into files that the
// old server writes on the same machine. PostgreSQL takes one target alone, and not one that is
// set to nothing besides another (assign_recovery_target_time and the like in guc).
var oldSetting = regexp.MustCompile(`(?im)^[ \t]*(recovery_target(_lsn|_name|_time|_xid)?|data_directory|external_pid_file|stats_temp_directory)[ \t]*[= \t].*$`)

// editConfig takes the old settings out of a file of settings, and adds others.
func (r *restore) editConfig(name, more string) error {
	text, err := r.tree.data().root.ReadFile(name)
	if err != nil && (name != autoConfig || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	edited := oldSetting.ReplaceAllString(string(text), "# pgmedic: $0")
	if more != "" {
		edited = strings.TrimRight(edited, "\n") + "\n" + more
	}
	if edited == string(text) {
		return nil
	}
	return r.tree.writeFile(name, edited)
}

// tablespaceMap is the file by which PostgreSQL links the tablespaces of a base backup.
func tablespaceMap(to []recovery.Tablespace, from []pgmedic.Tablespace) string {
	var b strings.Builder
	escape := strings.NewReplacer("\\", "\\\\", "\n", "\\\n", "\r", "\\\r")
	for _, t := range from {
		for _, place := range to {
			if place.OID == t.OID {
				fmt.Fprintf(&b, "%d %s\n", t.OID, escape.Replace(place.To))
			}
		}
	}
	return b.String()
}

// serverManifest writes PostgreSQL's own manifest, for pg_verifybackup.
func (r *restore) serverManifest(ctx context.Context) error {
	if _, there := r.Source.Backup.Object(pgmedic.RoleServerManifest); !there {
		return nil
	}
	in, err := r.Source.Object(ctx, pgmedic.RoleServerManifest)
	if err != nil {
		return err
	}
	if err := r.tree.writeFile("backup_manifest", ""); err != nil {
		return errors.Join(err, in.Close())
	}
	out, err := r.tree.data().root.OpenFile("backup_manifest", os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close(), in.Close()); err != nil {
		return fmt.Errorf("write PostgreSQL's manifest: %w", err)
	}
	return nil
}

// quote writes a value of postgresql.conf.
func quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(value) + "'"
}

// settings are the lines of postgresql.auto.conf by which PostgreSQL recovers to the target
// of a plan and to nothing else, and more. They override those before them.
func settings(p *recovery.Plan, restoreCommand string, more map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# pgmedic: recovery from backup %s\n", p.Backup)
	all := Settings(p, restoreCommand)
	maps.Copy(all, more)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quote(all[name]))
	}
	return b.String()
}

// Settings are PostgreSQL's settings for the recovery to the target of a plan, and to
// nothing else.
func Settings(p *recovery.Plan, restoreCommand string) map[string]string {
	all := map[string]string{
		"restore_command":           restoreCommand,
		"recovery_end_command":      "rm -rf pg_wal/" + recovery.PrefetchFolder,
		"archive_cleanup_command":   "",
		"recovery_target_inclusive": "on",
		"recovery_target_timeline":  fmt.Sprint(p.WAL.Timeline),
		"recovery_target_action":    "promote",
		"recovery_min_apply_delay":  "0",
		// Standbys of the server that was backed up stay with it.
		"archive_mode": "off", "primary_conninfo": "", "primary_slot_name": "",
	}
	// Without a target the recovery ends where the WAL of the plan ends, which is exact, too.
	// With recovery_target = 'immediate' PostgreSQL needs a record behind that.
	if p.WAL.Stop == wal.StopAtLSN {
		all["recovery_target_lsn"] = p.WAL.LSN.String()
	} else {
		// One of an earlier recovery can be in a file that postgresql.conf includes, or outside
		// of the data folder. Besides a target of the plan PostgreSQL would refuse it.
		for _, name := range []string{"", "_lsn", "_name", "_time", "_xid"} {
			all["recovery_target"+name] = ""
		}
	}
	return all
}
