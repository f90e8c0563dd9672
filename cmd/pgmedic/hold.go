package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
)

type holdFlags struct{ reason, name, until string }

// heldRow is one store in the JSON of hold and release.
type heldRow struct {
	ID    string `json:"id"`
	Store string `json:"store"`
	// Holds are those that the backup has there afterwards.
	Holds []catalog.Hold `json:"holds"`
	// Unmarked is true where a mark for deletion was taken off.
	Unmarked bool `json:"unmarked"`
	// Damaged is true where the manifest can't be used.
	Damaged bool `json:"damaged,omitempty"`
}

// holder holds and releases a backup in every store that has it.
type holder struct {
	job
	stores  stores
	backups backups
}

func newHolder(j job) holder { return holder{job: j, stores: stores{j}, backups: newBackups(j)} }

// holdCommand keeps a backup from being deleted.
type holdCommand struct {
	holder
	args  []string
	flags holdFlags
}

// releaseCommand releases a hold.
type releaseCommand struct {
	holder
	args []string
	// name is the hold's, or empty where there is one alone.
	name string
}

func holdCLI(e *env) *cobra.Command {
	var flags holdFlags
	cmd := &cobra.Command{
		Use:   "hold ID",
		Short: "Keep a backup from being deleted, with a reason",
		Long: `Holds a backup in every configured store that has it: pgmedic prune keeps it, whatever
retention says, until all of its holds are released or have ended. A backup can have
several holds, which their names tell apart. A store that can't be reached is named
(exit code 15): run the same hold again, which completes it. Running a hold for a length
of time again does not make it longer.`,
		Example: `  pgmedic hold 7f3a9c --reason 'legal case 118'
  pgmedic hold latest --reason 'before the migration' --name migration --until 2027-03-31`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &holdCommand{holder: newHolder(j), args: args, flags: flags}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&flags.reason, "reason", "", "why it is kept")
	cmd.Flags().StringVar(&flags.name, "name", "", "name of the hold (default: your user name)")
	cmd.Flags().StringVar(&flags.until, "until", "", "when the hold ends by itself: a date such as 2027-03-31, or a length such as 90d (default: never)")
	return cmd
}

func releaseCLI(e *env) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Release a hold, and take a backup's mark for deletion off",
		Long: `Releases a hold of a backup in every configured store that has it, and takes its mark
for deletion off, if it has one. The next pgmedic prune judges the backup again. Of a
backup that has several holds, name the one to release. It works for a damaged backup, too,
whose manifest can't be used: give its id.`,
		Example: `  pgmedic release 7f3a9c
  pgmedic release 7f3a9c --name migration`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &releaseCommand{holder: newHolder(j), args: args, name: name}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the hold, where there are several")
	return cmd
}

// foundIn is a backup in one store.
type foundIn struct {
	store *heldStore
	entry catalog.Entry
}

// everywhere is a backup in all configured stores that have it.
type everywhere struct {
	found []foundIn
	// damaged are the stores in which its manifest can't be used.
	damaged []damagedIn
	// unread says which stores could not be read: it is for the caller to say what that
	// means.
	unread error
}

// id is that of the backup.
func (e everywhere) id() string {
	if len(e.found) > 0 {
		return e.found[0].entry.Backup.ID
	}
	return e.damaged[0].ID
}

// about notes in the trail which backup it is.
func (e everywhere) about(t *trail) {
	if len(e.found) > 0 {
		t.aboutBackup(e.found[0].entry.Backup)
		return
	}
	server, database := folderNames(e.damaged[0].Folder)
	t.about(act{object: e.damaged[0].ID, params: map[string]string{"server": server, "database": database}})
}

// findEverywhere finds a backup in all configured stores.
func (h holder) findEverywhere(ctx context.Context, stores retained, args []string) (all everywhere, err error) {
	ref, f, err := h.backups.named(args)
	if err != nil {
		return all, err
	}
	f.Now = h.now()
	var missing error
	for _, s := range stores {
		if s.err == nil {
			var e catalog.Entry
			if e, s.err = s.catalog.Get(ctx, ref, f); s.err == nil {
				all.found, ref, f = append(all.found, foundIn{s, e}), e.Backup.ID, catalog.Filter{Now: h.now()}
				continue
			}
			if d, err := findDamaged(ctx, s, ref, f, s.err); err != nil {
				s.err = err
			} else if d != nil {
				all.damaged, ref, f = append(all.damaged, *d), d.ID, catalog.Filter{Now: h.now()}
				continue
			}
		}
		switch kind := pgmedic.KindOf(s.err); {
		case ctx.Err() != nil:
			return all, context.Cause(ctx)
		case kind == pgmedic.KindNotFound:
			missing = errors.Join(missing, s.err)
		case kind == pgmedic.KindUnreachable:
			all.unread = errors.Join(all.unread, s.err)
		default:
			return all, s.err
		}
	}
	if len(all.found)+len(all.damaged) == 0 {
		return all, errors.Join(all.unread, missing)
	}
	return all, nil
}

func (cmd *holdCommand) run(ctx context.Context) error {
	asked, length, err := cmd.newHold()
	if err != nil {
		return err
	}
	stores := cmd.stores.openAll(ctx)
	defer stores.close()
	all, err := cmd.findEverywhere(ctx, stores, cmd.args)
	if err != nil {
		return err
	}
	found := all.found
	all.about(cmd.trail)
	cmd.trail.about(act{reason: asked.Reason, params: map[string]string{"hold": asked.Name, "until": cmd.flags.until}})
	var rows []heldRow
	var failed error
	for _, x := range found {
		h := asked
		if length {
			h.Until = endOf(x, found, asked)
		}
		err := cmd.stores.checkLockable(x, h)
		if err == nil {
			err = x.store.catalog.AddHold(ctx, x.entry.Backup, h)
		}
		if err == nil {
			err = cmd.stores.lockHeld(ctx, x, append(x.entry.Held(cmd.now()), h))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", x.store.Name, err))
			continue
		}
		row := heldRow{ID: x.entry.Backup.ID, Store: x.store.Name, Holds: append(slices.DeleteFunc(slices.Clone(x.entry.Holds),
			func(other catalog.Hold) bool { return other.Name == h.Name }), h)}
		rows = append(rows, row)
		cmd.printHeld("held", row, h.Name)
	}
	for _, d := range all.damaged {
		failed = errors.Join(failed, d.refuseHold())
	}
	return cmd.end(rows, failed, all.unread, "held")
}

// endOf is when a hold for a length of time ends in one store: where it was asked for
// before, when it ends there, or in another store, so that it can be repeated.
func endOf(x foundIn, found []foundIn, h catalog.Hold) time.Time {
	for _, at := range append([]foundIn{x}, found...) {
		for _, there := range at.entry.Holds {
			if there.Name == h.Name && there.By == h.By && there.Reason == h.Reason && there.Until.After(h.At) {
				return there.Until
			}
		}
	}
	return h.Until
}

// newHold checks what was asked for. It reports whether that is for a length of time.
func (cmd *holdCommand) newHold() (h catalog.Hold, length bool, err error) {
	if len(cmd.args) == 0 {
		return h, false, pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	if strings.TrimSpace(cmd.flags.reason) == "" {
		return h, false, pgmedic.Errorf(pgmedic.KindUsage, "for example, give --reason 'legal case 118'", "a hold needs a reason")
	}
	h = catalog.Hold{Name: cmd.flags.name, By: cmd.userName(), Host: hostName(), At: cmd.now().UTC(), Reason: cmd.flags.reason}
	if h.Name == "" {
		h.Name = regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(strings.TrimLeft(h.By, "._-"), "-")
	}
	if cmd.flags.until != "" {
		h.Until, length, err = until(cmd.flags.until, cmd.now())
	}
	return h, length, err
}

// until is when a hold ends: a date, at whose end it does, a moment, or a length from now.
func until(text string, now time.Time) (at time.Time, length bool, err error) {
	at, err = time.Parse(time.RFC3339, text)
	if err != nil {
		if at, err = time.Parse(time.DateOnly, text); err == nil {
			at = at.AddDate(0, 0, 1)
		}
	}
	if err != nil {
		var l pgmedic.Length
		if l, err = pgmedic.ParseLength(text); err == nil {
			at, length = now.AddDate(l.Years, l.Months, l.Days).Add(l.Rest), true
		}
	}
	switch {
	case err != nil:
		return at, length, pgmedic.Errorf(pgmedic.KindUsage, "write a date such as 2027-03-31, or a length such as 90d", "--until is neither a date nor a length of time")
	case !at.After(now):
		return at, length, pgmedic.Errorf(pgmedic.KindUsage, "name a later one", "--until is not in the future")
	}
	return at.UTC(), length, nil
}

func (cmd *releaseCommand) run(ctx context.Context) error {
	if len(cmd.args) == 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	stores := cmd.stores.openAll(ctx)
	defer stores.close()
	all, err := cmd.findEverywhere(ctx, stores, cmd.args)
	if err != nil {
		return err
	}
	all.about(cmd.trail)
	name, err := all.chooseHold(cmd.name)
	if err != nil {
		return err
	}
	if err := cmd.trail.intend(ctx, act{params: map[string]string{"hold": name}}); err != nil {
		return err
	}
	var rows []heldRow
	var failed error
	for _, x := range all.found {
		// Before the hold is gone, so that it can be repeated.
		err := cmd.stores.unlockHeld(ctx, x, name)
		var row heldRow
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", x.store.Name, err))
			if pgmedic.KindOf(err) != pgmedic.KindIntegrity { // an object is lost, and the others are released
				continue
			}
		}
		if row, err = x.release(ctx, name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", x.store.Name, err))
			continue
		}
		rows = append(rows, row)
		cmd.printHeld("released", row, name)
	}
	for _, d := range all.damaged {
		err := cmd.stores.unlockDamaged(ctx, d, name)
		var row heldRow
		if err == nil {
			row, err = d.release(ctx, name)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", d.store.Name, err))
			continue
		}
		rows = append(rows, row)
		cmd.printHeld("released", row, name)
	}
	return cmd.end(rows, failed, all.unread, "released")
}

// chooseHold returns the hold to release: the one that is named, or the only one. It is
// empty where there is only a mark.
func (e everywhere) chooseHold(name string) (string, error) {
	var names []string
	marked := false
	add := func(holds []catalog.Hold, mark *catalog.Mark) {
		marked = marked || mark != nil
		for _, h := range holds {
			if !slices.Contains(names, h.Name) {
				names = append(names, h.Name)
			}
		}
	}
	for _, x := range e.found {
		add(x.entry.Holds, x.entry.Mark)
	}
	for _, d := range e.damaged {
		add(d.Holds, d.Mark)
	}
	id := e.id()
	slices.Sort(names)
	switch {
	case name != "" && slices.Contains(names, name):
		return name, nil
	case name != "" && len(names) > 0:
		return "", pgmedic.Errorf(pgmedic.KindNotFound, "its holds are "+strings.Join(names, ", "), "backup %s has no hold %q", id, name)
	case name != "":
		return "", pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic show "+id+"` shows what holds it", "backup %s has no hold %q", id, name)
	case len(names) > 1:
		return "", pgmedic.Errorf(pgmedic.KindUsage, "name one with --name: "+strings.Join(names, ", "), "backup %s has %d holds", id, len(names))
	case len(names) == 1:
		return names[0], nil
	case marked:
		return "", nil
	}
	return "", pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic list --why` shows what keeps it", "backup %s is not held, and not marked for deletion", id)
}

// release releases a hold in one store, if it is there, and takes the mark off.
func (x foundIn) release(ctx context.Context, name string) (heldRow, error) {
	row := heldRow{ID: x.entry.Backup.ID, Store: x.store.Name, Holds: []catalog.Hold{}}
	for _, h := range x.entry.Holds {
		if h.Name != name {
			row.Holds = append(row.Holds, h)
			continue
		}
		if err := x.store.catalog.RemoveHold(ctx, x.entry.Backup, name); err != nil {
			return row, err
		}
	}
	if x.entry.Mark != nil {
		if err := x.store.catalog.Unmark(ctx, x.entry.Backup, *x.entry.Mark); err != nil {
			return row, err
		}
		row.Unmarked = true
	}
	return row, nil
}

func (h holder) printHeld(word string, r heldRow, name string) {
	if h.global.json {
		return
	}
	if h.global.quiet {
		h.wrapf("%s\n", words.Clean(r.ID))
		return
	}
	if name == "" {
		word = "unmarked"
	}
	text := fmt.Sprintf("%s in %s", r.ID, r.Store)
	if name != "" {
		text += fmt.Sprintf(", hold %q", name)
	}
	if i := slices.IndexFunc(r.Holds, func(h catalog.Hold) bool { return h.Name == name && !h.Until.IsZero() }); i >= 0 {
		text += ", until " + r.Holds[i].Until.UTC().Format("2006-01-02 15:04Z")
	}
	if r.Damaged {
		text += " (damaged)"
	}
	if r.Unmarked && name != "" {
		text += ", and its mark taken off"
	}
	if n := len(r.Holds); word == "released" && n > 0 {
		text += "; " + words.Plural(n, "hold") + " left"
	}
	h.wrapf("%s %s\n", h.paint(h.stdoutTTY).good(word), h.value(text))
}

// end prints the JSON, and makes one error of the stores in which it was not done.
func (h holder) end(rows []heldRow, failed, unread error, what string) error {
	if h.global.json {
		if err := h.printJSON(map[string]any{"stores": orEmpty(rows)}); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	if unread != nil {
		return pgmedic.Errorf(pgmedic.KindDegraded, "run it again when the store can be reached", "it is not %s in every store: %w", what, unread)
	}
	return nil
}
