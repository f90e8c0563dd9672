// Package cleanup removes files that pgmedic wrote and that nothing needs any more: old
// logs and reports, and what runs that were killed left in folders for temporary files.
// It knows them by the names that pgmedic gives, takes regular files only, and follows no
// links.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/logfile"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

// Kind is a kind of thing that is cleaned up.
type Kind string

// The kinds.
const (
	// Logs are rotated logs.
	Logs Kind = "log"
	// Reports are those in the folder of reports.
	Reports Kind = "report"
	// Temporary are files that were never finished.
	Temporary Kind = "temporary"
	// Staging are folders in which a run that died kept definitions.
	Staging Kind = "staging"
	// Scratch are throwaway servers whose run died.
	Scratch Kind = "scratch"
	// History are readings in the history of reports, which this package does not
	// touch.
	History Kind = "history"
)

// Item is a thing and what becomes of it.
type Item struct {
	Kind Kind   `json:"kind"`
	Path string `json:"path"`
	// SizeBytes is 0 for a folder.
	SizeBytes int64 `json:"size_bytes"`
	// ModifiedAt is when it was last written to.
	ModifiedAt time.Time `json:"modified_at"`
	// Action is keep, delete or compress.
	Action Action `json:"action"`
	// Reason says why.
	Reason string `json:"reason"`
	// Done is true where the action was carried out.
	Done bool `json:"done"`
	// Error says why it was not.
	Error string `json:"error,omitempty"`

	info   fs.FileInfo
	parent string
}

// Action is what becomes of a thing.
type Action string

// The actions.
const (
	Keep     Action = "keep"
	Delete   Action = "delete"
	Compress Action = "compress"
)

// Options say what is cleaned up.
type Options struct {
	// Log is the file that is logged to; its rotated predecessors that are older than
	// LogKeep go. Empty means no log. A LogKeep of zero deletes none.
	Log     string
	LogKeep time.Duration
	// Reports is the folder of reports; those older than ReportKeep go. A ReportKeep of
	// zero deletes none.
	Reports    string
	ReportKeep time.Duration
	// Stores are folders of backups, in which unfinished files older than TempAge go.
	Stores  []string
	TempAge time.Duration
	// TempDir is where runs stage definitions; ScratchDirs are where throwaway servers
	// are, besides the folders for temporary files.
	TempDir     string
	ScratchDirs []string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Plan says what would go, oldest first in each folder, and what could not be checked,
// a sentence each. It changes nothing.
func Plan(o Options) (items []Item, unread []string) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := collector{o: o, now: o.Now()}
	c.logs()
	c.reports()
	for _, dir := range o.Stores {
		c.unfinished(dir, true)
	}
	c.staging()
	c.scratch()
	return c.items, c.unread
}

// Apply carries out what a plan says, and notes in each item whether it is done. An item
// that is not any more what it was is left alone.
func Apply(ctx context.Context, o Options, items []Item) {
	for i := range items {
		item := &items[i]
		if item.Action == Keep || item.Kind == History {
			continue
		}
		err := context.Cause(ctx)
		if err == nil {
			err = item.apply(ctx)
		}
		if err != nil {
			item.Error = err.Error()
			continue
		}
		item.Done = true
	}
}

// errChanged is the error of an item that is not what it was when it was planned.
var errChanged = errors.New("it has changed meanwhile")

func (i *Item) apply(ctx context.Context) error {
	switch {
	case i.Kind == Scratch:
		return i.sweep(ctx)
	case i.Action == Compress:
		return logfile.Compress(i.Path)
	case i.Kind == Staging:
		return i.removeStaging()
	}
	root, err := os.OpenRoot(i.parent)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only read
	name, err := filepath.Rel(i.parent, i.Path)
	if err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody was quicker
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || !os.SameFile(info, i.info) || !info.ModTime().Equal(i.info.ModTime()) {
		return errChanged
	}
	return root.Remove(name)
}

// sweep ends and removes a throwaway server, if its run is still dead.
func (i *Item) sweep(ctx context.Context) error {
	if err := scratch.SweepFolder(ctx, i.Path); err != nil {
		return err
	}
	if _, err := os.Lstat(i.Path); !errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	return nil
}

// collector collects the items of a plan.
type collector struct {
	o      Options
	now    time.Time
	items  []Item
	unread []string
}

func (c *collector) missed(what string, err error) {
	c.unread = append(c.unread, fmt.Sprintf("%s: %v", what, err))
}

// files returns the regular files directly in a folder whose names match. One that does
// not exist has none.
func (c *collector) files(kind Kind, dir string, match func(name string) bool) (items []Item) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		c.missed(dir, err)
		return nil
	}
	defer func() { _ = root.Close() }() // only read
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		c.missed(dir, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !match(e.Name()) {
			continue
		}
		info, err := root.Lstat(e.Name())
		if err != nil || !info.Mode().IsRegular() { // it went, or became something else
			continue
		}
		items = append(items, Item{
			Kind: kind, Path: filepath.Join(dir, e.Name()), SizeBytes: info.Size(), ModifiedAt: info.ModTime().UTC(), info: info, parent: dir,
		})
	}
	return items
}

// logs plans for the rotated logs.
func (c *collector) logs() {
	if c.o.Log == "" {
		return
	}
	dir := filepath.Dir(c.o.Log)
	var old []Item
	for _, item := range c.files(Logs, dir, func(name string) bool { _, _, ok := logfile.Rotated(c.o.Log, name); return ok }) {
		if at, _, _ := logfile.Rotated(c.o.Log, filepath.Base(item.Path)); at.After(item.ModifiedAt) {
			item.ModifiedAt = at
		}
		old = append(old, item)
	}
	old = Expire(old, c.o.LogKeep, c.now)
	for i := range old {
		if _, compressed, _ := logfile.Rotated(c.o.Log, filepath.Base(old[i].Path)); old[i].Action == Keep && !compressed {
			old[i].Action, old[i].Reason = Compress, "it was rotated and is not compressed yet"
		}
	}
	c.items = append(c.items, old...)
	c.unfinished(dir, false)
}

// reports plans for the reports, of which the newest of each format stays.
func (c *collector) reports() {
	if c.o.Reports == "" {
		return
	}
	formats := map[string][]Item{}
	for _, item := range c.files(Reports, c.o.Reports, func(name string) bool { _, ok := ReportTime(name); return ok }) {
		if at, _ := ReportTime(filepath.Base(item.Path)); at.After(item.ModifiedAt) {
			item.ModifiedAt = at
		}
		format := filepath.Ext(item.Path)
		formats[format] = append(formats[format], item)
	}
	for _, format := range []string{".txt", ".html", ".json", ".prom"} {
		c.items = append(c.items, Expire(formats[format], c.o.ReportKeep, c.now)...)
	}
	c.unfinished(c.o.Reports, false)
}

const (
	reportPrefix = "performance_report_"
	reportLayout = "20060102T150405Z"
	tempPrefix   = ".pgmedic-tmp-"
)

// ReportName is the name of a report that was made at a time, with an extension such as
// html.
func ReportName(at time.Time, extension string) string {
	return reportPrefix + at.UTC().Format(reportLayout) + "." + extension
}

// ReportTime returns when a report was made, by its name.
func ReportTime(name string) (at time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, reportPrefix)
	stamp, extension, dot := strings.Cut(rest, ".")
	if !ok || !dot || !slices.Contains([]string{"txt", "html", "json", "prom"}, extension) {
		return at, false
	}
	at, err := time.Parse(reportLayout, stamp)
	return at, err == nil && at.Format(reportLayout) == stamp
}

// unfinished plans for the files in a folder that were never finished, and in the folders
// below it, if asked.
func (c *collector) unfinished(dir string, below bool) {
	if dir == "" {
		return
	}
	match := func(name string) bool { return strings.HasPrefix(name, tempPrefix) }
	c.addUnfinished(c.files(Temporary, dir, match))
	if !below {
		return
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return // said above, or it does not exist
	}
	defer func() { _ = root.Close() }() // only read
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			c.missed(filepath.Join(dir, filepath.FromSlash(name)), err)
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir() && name != ".":
			c.addUnfinished(c.files(Temporary, filepath.Join(dir, filepath.FromSlash(name)), match))
		}
		return nil
	})
	if err != nil {
		c.missed(dir, err)
	}
}

func (c *collector) addUnfinished(items []Item) {
	for _, item := range items {
		if slices.ContainsFunc(c.items, func(o Item) bool { return o.Path == item.Path }) {
			continue // two settings name one folder
		}
		c.items = append(c.items, expireAll(item, c.o.TempAge, c.now))
	}
}

// scratch plans for throwaway servers whose run died.
func (c *collector) scratch() {
	for _, dir := range append([]string{""}, c.o.ScratchDirs...) {
		paths, err := scratch.Abandoned(scratch.SweepOptions{Parent: dir})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.missed("throwaway servers", err)
		}
		for _, path := range paths {
			if slices.ContainsFunc(c.items, func(o Item) bool { return o.Path == path }) {
				continue
			}
			item := Item{Kind: Scratch, Path: path, Action: Delete, Reason: "the run that started this throwaway server is dead"}
			if info, err := os.Lstat(path); err == nil {
				item.ModifiedAt = info.ModTime().UTC()
			}
			c.items = append(c.items, item)
		}
	}
}
