package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
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
}

func (a *app) holdCommand() *cobra.Command {
	var flags holdFlags
	cmd := &cobra.Command{
		Use:   "hold ID",
		Short: "Keep a backup from being deleted, with a reason",
		Long: `Holds a backup in every configured store that has it: pgmedic prune keeps it, whatever
retention says, until all of its holds are released or have ended. A backup can have
several holds, which their names tell apart. A store that can't be reached is named
(exit code 15): run the same hold again, which completes it.`,
		Example: `  pgmedic hold 7f3a9c --reason 'legal case 118'
  pgmedic hold latest --reason 'before the migration' --name migration --until 2027-03-31`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.hold(cmd.Context(), args, flags)
		},
	}
	cmd.Flags().StringVar(&flags.reason, "reason", "", "why it is kept")
	cmd.Flags().StringVar(&flags.name, "name", "", "name of the hold (default: your user name)")
	cmd.Flags().StringVar(&flags.until, "until", "", "when the hold ends by itself: a date such as 2027-03-31, or a length such as 90d (default: never)")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Release a hold, and take a backup's mark for deletion off",
		Long: `Releases a hold of a backup in every configured store that has it, and takes its mark
for deletion off, if it has one. The next pgmedic prune judges the backup again. Of a
backup that has several holds, name the one to release.`,
		Example: `  pgmedic release 7f3a9c
  pgmedic release 7f3a9c --name migration`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.release(cmd.Context(), args, name)
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

// findEverywhere finds a backup in all configured stores. The stores that could not be
// read are the second error: it is for the caller to say what that means.
func (a *app) findEverywhere(ctx context.Context, stores retained, args []string) (found []foundIn, unread, err error) {
	ref, f := catalog.Latest, catalog.Filter{Now: a.now()}
	if len(args) > 0 {
		ref = args[0]
	}
	if ref == catalog.Latest {
		if f, err = a.filter(); err != nil {
			return nil, nil, err
		}
	}
	var missing error
	for _, s := range stores {
		if s.err == nil {
			var e catalog.Entry
			if e, s.err = s.catalog.Get(ctx, ref, f); s.err == nil {
				found, ref, f = append(found, foundIn{s, e}), e.Backup.ID, catalog.Filter{Now: a.now()}
				continue
			}
		}
		switch kind := pgmedic.KindOf(s.err); {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case kind == pgmedic.KindNotFound:
			missing = errors.Join(missing, s.err)
		case kind == pgmedic.KindUnreachable:
			unread = errors.Join(unread, s.err)
		default:
			return nil, nil, s.err
		}
	}
	if len(found) == 0 {
		return nil, nil, errors.Join(unread, missing)
	}
	return found, unread, nil
}

// openStores opens all configured stores, of which some can't be.
func (a *app) openStores(ctx context.Context) retained {
	var all retained
	for _, s := range a.cfg.Stores() {
		store := &heldStore{StoreOf: s}
		store.catalog, store.closed, store.err = a.openPlace(ctx, s.Place, s.S3, true)
		all = append(all, store)
	}
	return all
}

func (a *app) hold(ctx context.Context, args []string, flags holdFlags) error {
	h, err := a.newHold(args, flags)
	if err != nil {
		return err
	}
	stores := a.openStores(ctx)
	defer stores.close()
	found, unread, err := a.findEverywhere(ctx, stores, args)
	if err != nil {
		return err
	}
	var rows []heldRow
	var failed error
	for _, x := range found {
		if err := x.store.catalog.AddHold(ctx, x.entry.Backup, h); err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", x.store.Name, err))
			continue
		}
		row := heldRow{ID: x.entry.Backup.ID, Store: x.store.Name, Holds: append(slices.DeleteFunc(slices.Clone(x.entry.Holds),
			func(other catalog.Hold) bool { return other.Name == h.Name }), h)}
		rows = append(rows, row)
		a.printHeld("held", row, h.Name)
	}
	return a.endHold(rows, failed, unread, "held")
}

// newHold checks what was asked for.
func (a *app) newHold(args []string, flags holdFlags) (catalog.Hold, error) {
	var h catalog.Hold
	if len(args) == 0 {
		return h, pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	if strings.TrimSpace(flags.reason) == "" {
		return h, pgmedic.Errorf(pgmedic.KindUsage, "say --reason 'legal case 118', say", "a hold has a reason")
	}
	h = catalog.Hold{Name: flags.name, By: a.userName(), Host: a.host(), At: a.now().UTC(), Reason: flags.reason}
	if h.Name == "" {
		h.Name = regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(strings.TrimLeft(h.By, "._-"), "-")
	}
	var err error
	if flags.until != "" {
		h.Until, err = until(flags.until, a.now())
	}
	return h, err
}

// until is when a hold ends: a date, at whose end it does, a moment, or a length.
func until(text string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		if at, err = time.Parse(time.DateOnly, text); err == nil {
			at = at.AddDate(0, 0, 1)
		}
	}
	if err != nil {
		var l pgmedic.Length
		if l, err = pgmedic.ParseLength(text); err == nil {
			at = now.AddDate(l.Years, l.Months, l.Days).Add(l.Rest)
		}
	}
	switch {
	case err != nil:
		return at, pgmedic.Errorf(pgmedic.KindUsage, "write a date such as 2027-03-31, or a length such as 90d", "--until is neither a date nor a length of time")
	case !at.After(now):
		return at, pgmedic.Errorf(pgmedic.KindUsage, "name a later one", "--until is not in the future")
	}
	return at.UTC(), nil
}

// userName is who runs pgmedic.
func (a *app) userName() string {
	for _, kv := range a.environ {
		if name, ok := strings.CutPrefix(kv, "SUDO_USER="); ok && name != "" {
			return name
		}
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

func (a *app) release(ctx context.Context, args []string, name string) error {
	if len(args) == 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	stores := a.openStores(ctx)
	defer stores.close()
	found, unread, err := a.findEverywhere(ctx, stores, args)
	if err != nil {
		return err
	}
	if name, err = chooseHold(found, name); err != nil {
		return err
	}
	var rows []heldRow
	var failed error
	for _, x := range found {
		row, err := x.release(ctx, name)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %s: %w", x.store.Name, err))
			continue
		}
		rows = append(rows, row)
		a.printHeld("released", row, name)
	}
	return a.endHold(rows, failed, unread, "released")
}

// chooseHold returns the hold to release: the one that is named, or the only one. It is
// empty where there is only a mark.
func chooseHold(found []foundIn, name string) (string, error) {
	var names []string
	marked := false
	for _, x := range found {
		marked = marked || x.entry.Mark != nil
		for _, h := range x.entry.Holds {
			if !slices.Contains(names, h.Name) {
				names = append(names, h.Name)
			}
		}
	}
	id := found[0].entry.Backup.ID
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

func (a *app) printHeld(word string, r heldRow, name string) {
	if a.global.json {
		return
	}
	if a.global.quiet {
		a.printf("%s\n", words.Clean(r.ID))
		return
	}
	if name == "" {
		word = "unmarked"
	}
	text := fmt.Sprintf("%s in %s", r.ID, r.Store)
	if name != "" {
		text += fmt.Sprintf(", hold %q", name)
	}
	if r.Unmarked && name != "" {
		text += ", and its mark taken off"
	}
	if n := len(r.Holds); word == "released" && n > 0 {
		text += "; " + count(n, "hold") + " left"
	}
	a.printf("%s %s\n", a.paint(a.stdoutTTY).good(word), a.value(text))
}

// endHold prints the JSON, and makes one error of the stores in which it was not done.
func (a *app) endHold(rows []heldRow, failed, unread error, what string) error {
	if a.global.json {
		if err := a.printJSON(map[string]any{"stores": orEmpty(rows)}); err != nil {
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
