package catalog

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// folder is what a listing of keys shows of one backup.
type folder struct {
	path, id string
	manifest bool
	size     int64 // of the manifest
	receipts []storedReceipt
	keys     int
	// finished is true where something is there that is written when the objects
	// are: what lacks a manifest then had one, or was about to get it.
	finished bool
	orphan   Orphan
	holds    []store.Object
	mark     store.Object // without a key where there is none
	// beside are the names of receipts and holds.
	beside []string
}

// commitTime is how long after its last object a run may take to write the manifest.
const commitTime = time.Hour

// lost reports whether a folder without a manifest is that of a backup, or of a copy,
// that was whole, and not what a run left that never came so far. The zero time asks
// no clock, and says no. One that is marked is being deleted.
func (d *folder) lost(now time.Time) bool {
	return d.finished && d.mark.Key == "" && !now.IsZero() && now.Sub(d.orphan.NewestAt) > commitTime
}

func lostManifest(d *folder) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "if another store has it, `pgmedic copy` from there completes it; else count on other backups, and find out what deletes files in the store",
		"backup %s is damaged: its manifest is gone, or a copy of it broke off", d.id)
}

func (c *Catalog) folders(ctx context.Context, f Filter) ([]*folder, error) {
	prefix := ""
	if f.Server != "" {
		prefix = EscapeName(f.Server) + "/"
		if f.Database != "" {
			prefix += EscapeName(f.Database) + "/"
		}
	}
	return foldersBelow(ctx, c, prefix, f.Database)
}

// foldersBelow lists the backups' folders whose keys begin with prefix, of one
// database if that is not empty.
func foldersBelow(ctx context.Context, c *Catalog, prefix, database string) ([]*folder, error) {
	var all []*folder
	byPath := map[string]*folder{}
	for object, err := range c.store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		m := backupKey.FindStringSubmatch(object.Key)
		if m == nil || database != "" && path.Base(path.Dir(m[1])) != EscapeName(database) {
			continue
		}
		d := byPath[m[1]]
		if d == nil {
			d = &folder{path: m[1], id: m[2], orphan: Orphan{ID: m[2], Folder: m[1]}}
			byPath[m[1]] = d
			all = append(all, d)
		}
		switch name := m[3]; {
		case name == manifestName:
			d.manifest, d.size = true, object.SizeBytes
		case name == manifestHashName, name == manifestMACName, slices.Contains(lastObjects(), name):
			d.finished = true
		case isReceipt(name):
			d.finished = true
			d.receipts = append(d.receipts, storedReceipt{object.Key, object.SizeBytes, object.ModifiedAt})
			d.beside = append(d.beside, name)
		case holdName(name) != "":
			d.holds = append(d.holds, object)
			d.beside = append(d.beside, name)
		case name == markName:
			d.mark = object
			d.orphan.MarkedAt = object.ModifiedAt
		case strings.HasPrefix(name, keysFolder+"/") && strings.HasSuffix(name, ".age"):
			d.keys++
		}
		d.orphan.Objects++
		d.orphan.SizeBytes += object.SizeBytes
		if object.ModifiedAt.After(d.orphan.NewestAt) {
			d.orphan.NewestAt = object.ModifiedAt
		}
	}
	return all, nil
}

// lastObjects are those that a backup writes when all rows are in the store.
func lastObjects() []string { return []string{"recover.sh", "RECOVER.md"} }
