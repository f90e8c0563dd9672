package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// unitFolder is where a manager of systemd has its units: the system's, or this
// account's.
type unitFolder struct {
	path string
	user bool
}

// systemUnits is where an administrator's units are.
const systemUnits = "/etc/systemd/system"

// unitFolder returns the folder of the system's units or of this account's.
func (e *env) unitFolder(ofUser bool) (unitFolder, error) {
	if !ofUser {
		return unitFolder{path: systemUnits}, nil
	}
	if dir := e.variable("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return unitFolder{filepath.Join(dir, "systemd", "user"), true}, nil
	}
	if home := e.variable("HOME"); filepath.IsAbs(home) {
		return unitFolder{filepath.Join(home, ".config", "systemd", "user"), true}, nil
	}
	return unitFolder{}, pgmedic.Errorf(pgmedic.KindUsage, "set HOME", "no home folder is known for units of this account")
}

// unitFolders returns both.
func (e *env) unitFolders() []unitFolder {
	all := []unitFolder{{path: systemUnits}}
	if own, err := e.unitFolder(true); err == nil {
		all = append(all, own)
	}
	return all
}

func (d unitFolder) file(name string) string { return filepath.Join(d.path, name) }

// read returns the units in the folder whose names begin as pgmedic's do.
func (d unitFolder) read() (files []schedule.File, err error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "check that you may read it", "read the units of systemd: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if !strings.HasPrefix(e.Name(), schedule.UnitPrefix) || ext != ".service" && ext != ".timer" || !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(d.file(e.Name()))
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "check that you may read it", "read a unit of systemd: %w", err)
		}
		files = append(files, schedule.File{Name: e.Name(), Text: string(data)})
	}
	return files, nil
}

// systemctl runs systemctl for the manager whose folder it is.
func (d unitFolder) systemctl(ctx context.Context, environ []string, args ...string) error {
	program, err := exec.LookPath("systemctl")
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "use --cron, or `pgmedic schedule systemd --output DIR` for another machine", "no program systemctl was found in PATH")
	}
	if d.user {
		args = append([]string{"--user"}, args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &complaint, &complaint, 10*time.Second
	cmd.Env = append(slices.Clone(environ), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return pgmedic.Errorf(pgmedic.KindFailed, "run it by hand to see why; then run this again", "systemctl %s: %w: %s", strings.Join(args, " "), err, words.OneLine(complaint.String()))
	}
	return nil
}

// remove stops timers, removes units and has systemd forget them.
func (d unitFolder) remove(ctx context.Context, environ, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".timer") || name == schedule.StreamUnit {
			if err := d.systemctl(ctx, environ, "disable", "--now", name); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as the account that the folder belongs to", "remove a unit: %w", err)
		}
	}
	if err := d.sync(); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as the account that the folder belongs to", "remove a unit: %w", err)
	}
	return d.systemctl(ctx, environ, "daemon-reload")
}

// write puts a unit in its place durably, whole or not at all: after a crash there is the old
// one or the new one.
func (d unitFolder) write(f schedule.File) error {
	temporary := d.file(".new-" + f.Name)
	err := writeDurably(temporary, f.Text)
	if err == nil {
		err = os.Rename(temporary, d.file(f.Name))
	}
	if err != nil {
		_ = os.Remove(temporary)
	} else {
		err = d.sync()
	}
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as root, or with --user", "write a unit: %w", err)
	}
	return nil
}

// writeDurably writes a file that all may read, in place of what a killed run left.
func writeDurably(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sync makes durable which files are in the folder. File systems that can't do this for
// folders say so with EINVAL or ENOTSUP.
func (d unitFolder) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// installUnits installs the plan with systemd.
func (cmd *scheduleInstallCommand) installUnits(ctx context.Context) error {
	source := cmd.host.Source()
	if tab, err := findCrontab(cmd.environ); err == nil {
		text, err := tab.read(ctx)
		if err != nil {
			return err
		}
		if block, err := schedule.FindBlock(text, source, cmd.plan); err != nil || block.State != schedule.InstalledNot {
			return pgmedic.Errorf(pgmedic.KindConflict, "run `pgmedic schedule uninstall` first", "the schedules are in the crontab of this account: jobs would run twice")
		}
	}
	files, notes, err := cmd.units(schedule.UnitOptions{User: cmd.folder.user, RunAs: cmd.runAs})
	if err != nil {
		return err
	}
	installed, err := cmd.folder.read()
	if err != nil {
		return err
	}
	changes, stale, changed, err := compareUnits(installed, files, cmd.folder, source)
	if err != nil {
		return err
	}
	folders := []string{}
	if !cmd.folder.user {
		if folders, err = cmd.missingFolders(); err != nil {
			return err
		}
		for _, dir := range folders {
			changes = append(changes, "+ "+dir+"/ (a folder, mode 0700)")
		}
	}
	if slices.Contains(stale, schedule.StreamUnit) {
		notes = append(notes, streamNote(slotStays))
	}
	result := installResult{With: "systemd", Changes: orEmpty(changes), Notes: orEmpty(notes)}
	on, err := cmd.agree(ctx, changes, fmt.Sprintf("Install %s in %s?", cmd.planWords(), cmd.folder.path), "install", cmd.dryRun)
	if err != nil {
		return err
	}
	if on {
		if err := cmd.putUnits(ctx, changed, stale, folders); err != nil {
			return err
		}
		result.Done = true
	}
	watch := "failed jobs are in `systemctl --failed`, their words in the journal"
	if cmd.folder.user {
		watch = "jobs run while you are logged in, or always after `loginctl enable-linger`; failed ones are in `systemctl --user --failed`"
	}
	return cmd.tellInstalled(result, watch)
}

// compareUnits returns the changes that make the installed units those of the plan: the
// files to write, and the names of those to remove.
func compareUnits(installed, files []schedule.File, dir unitFolder, source string) (changes, stale []string, changed []schedule.File, err error) {
	old := map[string]string{}
	for _, f := range installed {
		old[f.Name] = f.Text
		planned := slices.ContainsFunc(files, func(n schedule.File) bool { return n.Name == f.Name })
		ours, _, _ := schedule.UnitOf(f.Text, source)
		switch {
		case planned && !ours:
			return nil, nil, nil, pgmedic.Errorf(pgmedic.KindConflict, "give the schedule another name", "the unit %s is of another configuration, or was not made by pgmedic", dir.file(f.Name))
		case ours && !planned:
			changes, stale = append(changes, "- "+dir.file(f.Name)), append(stale, f.Name)
		}
	}
	for _, f := range files {
		if lines := difference(old[f.Name], f.Text); len(lines) > 0 {
			changes, changed = append(append(changes, "+ "+dir.file(f.Name)), indent(lines)...), append(changed, f)
		}
	}
	return changes, stale, changed, nil
}

func indent(lines []string) []string {
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return lines
}

// putUnits makes the changes. All timers are enabled, those that are unchanged, too.
func (cmd *scheduleInstallCommand) putUnits(ctx context.Context, changed []schedule.File, stale, folders []string) error {
	for _, dir := range folders {
		if err := cmd.makeFolder(dir); err != nil {
			return err
		}
	}
	if err := cmd.folder.remove(ctx, cmd.environ, stale); err != nil {
		return err
	}
	if err := os.MkdirAll(cmd.folder.path, 0o755); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as root, or with --user", "make the folder of units: %w", err)
	}
	for _, f := range changed {
		if err := cmd.folder.write(f); err != nil {
			return err
		}
	}
	if err := cmd.folder.systemctl(ctx, cmd.environ, "daemon-reload"); err != nil {
		return err
	}
	if cmd.cfg.WAL.Stream {
		if err := cmd.folder.startStream(ctx, cmd.environ); err != nil {
			return err
		}
	}
	for _, e := range cmd.plan {
		// A timer that runs takes new times at a restart alone.
		for _, verb := range []string{"enable", "restart"} {
			if err := cmd.folder.systemctl(ctx, cmd.environ, verb, schedule.UnitPrefix+e.Name+".timer"); err != nil {
				return err
			}
		}
	}
	return nil
}

// missingFolders returns the folders that jobs write into and that do not exist: in its
// sandbox a job can't make them.
func (cmd *scheduleInstallCommand) missingFolders() (missing []string, err error) {
	for _, dir := range cmd.writable() {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, dir)
		case err != nil:
			return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "check the path, and run it as root", "a folder that jobs write into: %w", err)
		case !info.IsDir():
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "name a folder", "%s is not a folder", dir)
		}
	}
	return missing, nil
}

// makeFolder makes a folder and those above it, for the account that jobs run as.
func (cmd *scheduleInstallCommand) makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := cmd.makeFolder(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "make it by hand", "make a folder that jobs write into: %w", err)
	}
	if cmd.runAs == "" {
		return nil
	}
	account, err := user.Lookup(cmd.runAs)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "create it, or name another with --run-as", "find the account that jobs run as: %w", err)
	}
	uid, uidErr := strconv.Atoi(account.Uid)
	gid, gidErr := strconv.Atoi(account.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return fmt.Errorf("read the ids of the account that jobs run as: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as root", "give a folder to the account that jobs run as: %w", err)
	}
	return nil
}
