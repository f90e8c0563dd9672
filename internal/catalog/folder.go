package catalog

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

// folder is what a listing of keys shows of one backup.
type folder struct {
	path, id string
	manifest bool
	size     int64 // of the manifest
	receipts []storedReceipt
	keys     int
	// signatures counts those of the manifest.
	signatures int
	// finished is true where something is there that is written when the objects
	// are: what lacks a manifest then had one, or was about to get it.
	finished bool
	orphan   Orphan
	holds    []store.Object
	mark     store.Object // without a key where there is none
	// beside are the names of receipts and holds.
	beside []string
}

// content is how many objects are in it beside the manifest, the mark, and what is beside a
// backup. A folder that is not there has none.
func (d *folder) content() int {
	if d == nil {
		return 0
	}
	n := d.orphan.Objects - len(d.beside)
	if d.manifest {
		n--
	}
	if d.mark.Key != "" {
		n--
	}
	return n
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

// folders lists the backups' folders that match the filter. It walks down to the
// databases and lists the keys of backups alone: what else is stored beside them, such
// as many thousands of WAL segments, is not listed.
func (c *Catalog) folders(ctx context.Context, f Filter) (all []*folder, err error) {
	servers, err := foldersIn(ctx, c, "", f.Server)
	for i := 0; err == nil && i < len(servers); i++ {
		var found []*folder
		found, err = foldersOfServer(ctx, c, servers[i], f)
		if f.Server == "" && servers[i] == AnchorsFolder && errors.Is(err, fs.ErrPermission) {
			err = nil // the anchors of another user's audit log: no backups
		}
		all = append(all, found...)
	}
	return all, err
}

// AnchorsFolder is the folder of a store in which the anchors of audit logs are, beside
// those of servers. A server may have that name as well.
const AnchorsFolder = "audit/"

// foldersOfServer lists the backups' folders of all databases of a server, or of one, and
// those of physical backups.
func foldersOfServer(ctx context.Context, c *Catalog, server string, f Filter) (all []*folder, err error) {
	if f.Cluster {
		return foldersOf(ctx, c, server+clusterFolder+"/")
	}
	databases, err := foldersIn(ctx, c, server, f.Database)
	for i := 0; err == nil && i < len(databases); i++ {
		if f.databasesOnly && databases[i] == server+clusterFolder+"/" {
			continue
		}
		var found []*folder
		found, err = foldersOf(ctx, c, databases[i])
		all = append(all, found...)
	}
	return all, err
}

// foldersIn returns the folders directly below one, or that of a name if it is given.
func foldersIn(ctx context.Context, c *Catalog, in, name string) (all []string, err error) {
	if name != "" {
		return []string{in + EscapeName(name) + "/"}, nil
	}
	for found, err := range c.store.Folders(ctx, in) {
		if err != nil {
			return nil, err
		}
		all = append(all, found)
	}
	return all, nil
}

// foldersOf lists the backups' folders of one database. Where nothing else begins as
// all of their ids do, the keys of all are listed at once, as many in each request as
// the store gives; else those of each backup alone.
func foldersOf(ctx context.Context, c *Catalog, database string) (all []*folder, err error) {
	found, err := foldersIn(ctx, c, database, "")
	backups := slices.DeleteFunc(slices.Clone(found), func(f string) bool { return !backupFolder.MatchString(f) })
	if err != nil || len(backups) == 0 {
		return nil, err
	}
	// They are in order, so that what the first and the last begin with all do.
	shared, last := backups[0], backups[len(backups)-1]
	for !strings.HasPrefix(last, shared) {
		shared = shared[:len(shared)-1]
	}
	if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, shared) && !backupFolder.MatchString(f) }) {
		return foldersBelow(ctx, c, shared)
	}
	for _, backup := range backups {
		one, err := foldersBelow(ctx, c, backup)
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// foldersBelow lists the backups' folders whose keys begin with prefix.
func foldersBelow(ctx context.Context, c *Catalog, prefix string) ([]*folder, error) {
	var all []*folder
	byPath := map[string]*folder{}
	for object, err := range c.store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		m := backupKey.FindStringSubmatch(object.Key)
		if m == nil {
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
			d.finished = true // only what has a manifest is held
			d.holds = append(d.holds, object)
			d.beside = append(d.beside, name)
		case signature.IsName(name):
			d.signatures++
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
