// Package cluster restores a physical backup: the files of a whole cluster into a data
// folder, from which PostgreSQL recovers to the target of a plan.
//
// Until the last step the folder has no global/pg_control, without which PostgreSQL does
// not start: what was interrupted or failed can't be taken for a cluster. Nothing is
// written before the list of files was read to its end, and so is known to be whole.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/recovery"
)

// Options say what is restored, and where to.
type Options struct {
	Source physical.Source
	// Plan is written into the folder. Its Tablespaces say where each lies.
	Plan *recovery.Plan
	// Dir is the data folder, and WALDir the folder of WAL, to which pg_wal is a link:
	// absolute and clean paths. An empty WALDir is pg_wal itself.
	Dir, WALDir string
	// Owner is whose the files are; nil is the user of the process.
	Owner *owner.ID
	// Delta keeps of a folder what is as in the backup, and deletes what is not in it.
	Delta bool
	// Jobs is how many chunks are read at the same time. Zero is 4, with few processors, too:
	// while some wait for the store or the disk, others are decrypted.
	Jobs int
	// RestoreCommand is PostgreSQL's setting of that name.
	RestoreCommand string
	// Confirm is called once all is known and checked, before anything is changed. Its
	// error ends the restore. Nil confirms.
	Confirm func(Preview) error
	// Progress gets events; nil disables them.
	Progress func(pgmedic.Event)
	// Logger receives warnings; nil disables logging.
	Logger *slog.Logger
}

// maxDeletions is how many paths of a Preview are listed.
const maxDeletions = 1000

// Preview is what a restore will do.
type Preview struct {
	Dir    string `json:"dir"`
	WALDir string `json:"wal_dir,omitempty"`
	Files  int64  `json:"files"`
	// Bytes are those of all files, and NeededBytes what the disks must have room for.
	Bytes       int64 `json:"bytes"`
	NeededBytes int64 `json:"needed_bytes"`
	// FreeBytes is the room on the disk of the data folder.
	FreeBytes int64 `json:"free_bytes"`
	// State is what the folder is now: absent, empty, cluster or unfinished.
	State State `json:"state"`
	// Deletions are what a delta restore deletes, of which the first are Delete.
	Deletions int64    `json:"deletions"`
	Delete    []string `json:"delete,omitempty"`
	// Configuration is what the settings in the backup mean for the restored cluster.
	Configuration Configuration `json:"configuration"`
}

// State is what a data folder is before a restore.
type State string

// The states of a data folder.
const (
	Absent State = "absent"
	Empty  State = "empty"
	// Existing is a cluster that PostgreSQL could start.
	Existing State = "cluster"
	// Unfinished is what an interrupted restore left.
	Unfinished State = "unfinished"
)

// Done is what a restore did.
type Done struct {
	Preview
	// FetchedBytes are the plain bytes that were read from the store, KeptBytes those that
	// were there already.
	FetchedBytes int64 `json:"fetched_bytes"`
	KeptBytes    int64 `json:"kept_bytes"`
	// Configured is false where the backup has no postgresql.conf, because the server had
	// it outside of the data folder.
	Configured bool `json:"configured"`
}

// restore is a restore on its way.
type restore struct {
	Options
	preview Preview
	tree    *tree
	listed  *listed
}

// Check reads all that a restore needs, and changes nothing: the folders, the list of
// files, the room on the disks. Options.Confirm is not called.
func Check(ctx context.Context, o Options) (Preview, error) {
	r, err := begin(ctx, o)
	if err != nil {
		return Preview{}, err
	}
	return r.preview, r.tree.close()
}

// Restore restores the files, so that PostgreSQL can be started and recovers. After an
// error of it the folder can't be started.
func Restore(ctx context.Context, o Options) (done Done, err error) {
	r, err := begin(ctx, o)
	if err != nil {
		return Done{}, err
	}
	defer func() { err = errors.Join(err, r.tree.close()) }()
	if o.Confirm != nil {
		if err := o.Confirm(r.preview); err != nil {
			return Done{}, err
		}
	}
	done.Preview = r.preview
	if err := r.run(ctx, &done); err != nil {
		return done, unfinished(o.Dir, err)
	}
	return done, nil
}

// unfinished says what is left behind.
func unfinished(dir string, err error) error {
	hint := fmt.Sprintf("%s is not finished and can't be started; run the same command again with --delta, or delete the folder", dir)
	if own := pgmedic.HintOf(err); own != "" {
		hint = own + "; " + hint
	}
	return pgmedic.Errorf(pgmedic.KindOf(err), hint, "%w", err)
}

// begin checks everything, and changes nothing.
func begin(ctx context.Context, o Options) (_ *restore, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Jobs == 0 {
		o.Jobs = 4
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &restore{Options: o, preview: Preview{Dir: o.Dir, WALDir: o.WALDir}}
	if r.preview.State, err = inspect(o); err != nil {
		return nil, err
	}
	r.tree = newTree(o)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.tree.close())
		}
	}()
	if err := r.tree.openExisting(r.preview.State); err != nil {
		return nil, err
	}
	if r.listed, err = r.readList(ctx); err != nil {
		return nil, err
	}
	if r.preview.Configuration, err = r.readConfiguration(ctx); err != nil {
		return nil, err
	}
	r.preview.Files, r.preview.Bytes = o.Source.Backup.Physical.Files, o.Source.Backup.Physical.PlainBytes
	if o.Delta {
		if err := r.findDeletions(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.checkSpace(); err != nil {
		return nil, err
	}
	return r, nil
}

// check refuses options that are not of a restore.
func (o Options) check() error {
	if o.Source.Backup.Physical == nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "`pgmedic list` shows which backups are physical", "backup %s is not a physical one", o.Source.Backup.ID)
	}
	for _, dir := range o.folders() {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return pgmedic.Errorf(pgmedic.KindUsage, "name a folder of its own, by its absolute path", "%q can't be a folder of a cluster", dir)
		}
	}
	return o.Plan.Check()
}

// folders are those that are written to.
func (o Options) folders() []string {
	all := []string{o.Dir}
	if o.WALDir != "" {
		all = append(all, o.WALDir)
	}
	for _, t := range o.tablespaces() {
		all = append(all, t.To)
	}
	return all
}

// tablespaces are those of the plan, of each folder the first: a tablespace can have been
// dropped, and another one created in its folder.
func (o Options) tablespaces() (all []recovery.Tablespace) {
	for _, t := range o.Plan.Tablespaces {
		if !slices.ContainsFunc(all, func(before recovery.Tablespace) bool { return before.From == t.From && before.To == t.To }) {
			all = append(all, t)
		}
	}
	return all
}

// run changes the folder.
func (r *restore) run(ctx context.Context, done *Done) error {
	if err := r.tree.make(r.preview.State); err != nil {
		return err
	}
	if r.Delta {
		if err := r.delete(ctx); err != nil {
			return err
		}
	}
	if err := r.write(ctx, done); err != nil {
		return err
	}
	failpoint.Hit(ctx, "cluster-written")
	if err := r.configure(ctx, done); err != nil {
		return err
	}
	if err := r.tree.flush(ctx); err != nil {
		return err
	}
	failpoint.Hit(ctx, "cluster-before-control")
	if err := r.tree.finish(); err != nil {
		return err
	}
	failpoint.Hit(ctx, "cluster-finished")
	return nil
}

// each calls what is given with the entries of the list of files, to its end.
func (r *restore) each(ctx context.Context, entry func(physical.Entry) error) (err error) {
	list, closer, err := r.Source.Files(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = entry(e)
		}
		if err != nil {
			return err
		}
	}
}
