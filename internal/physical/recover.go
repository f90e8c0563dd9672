package physical

import (
	"context"
	_ "embed"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/byhand"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// The names of the objects that say how to restore a backup without pgmedic.
const (
	recoverScriptName = "recover.sh"
	recoverGuideName  = "RECOVER.md"
)

//go:embed templates/recover.sh.tmpl
var recoverScript string

//go:embed templates/RECOVER.md.tmpl
var recoverGuide string

// byHandRecovery is what the templates are filled with. Paths of the server go into the script
// through the template's q, and nowhere else.
type byHandRecovery struct {
	ID, System, List, Settings string
	ServerVersion, SnapshotAt  string
	ServerMajor                int
	StartLSN, StopLSN          string
	WALBytes                   int64
	// FirstSegment is the segment in which the backup begins, and LastSegment the one in which
	// the WAL ends that it can't be used without.
	FirstSegment, LastSegment string
	Tablespaces               []pgmedic.Tablespace
	Objects                   []pgmedic.Object
	byhand.Opening
	// Parent is the backup that an incremental one needs, or empty; Manifest is the object with
	// the server's own manifest. Kept is true where whole files are taken from the parent.
	Parent, Manifest string
	Kept             bool
	// Signer is the id of the key that signs the manifest, or empty.
	Signer string
}

// storeRecovery stores the script and the guide, in plain text, as objects of the manifest.
func (r *run) storeRecovery(ctx context.Context) error {
	v, err := newRecovery(r.manifest, r.seal.Key != nil && r.seal.Key.PostQuantum())
	if err != nil {
		return err
	}
	if r.Signer != nil {
		v.Signer = r.Signer.ID()
	}
	for _, part := range []struct{ name, text string }{{recoverScriptName, recoverScript}, {recoverGuideName, recoverGuide}} {
		text, err := byhand.Render(part.name, part.text, v)
		if err == nil {
			err = r.putText(ctx, part.name, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newRecovery describes how a backup comes back. It is a pure function of the manifest, as far
// as it is filled before the commit.
func newRecovery(b *pgmedic.Backup, postQuantum bool) (byHandRecovery, error) {
	p := b.Physical
	start, err := wal.ParseLSN(p.StartLSN)
	if err != nil {
		return byHandRecovery{}, err
	}
	stop, err := wal.ParseLSN(p.StopLSN)
	if err != nil {
		return byHandRecovery{}, err
	}
	size := wal.SegmentSize(p.WALSegmentBytes)
	list, _ := b.Object(pgmedic.RoleFiles)
	settings, _ := b.Object(pgmedic.RoleSettings)
	manifest, _ := b.Object(pgmedic.RoleServerManifest)
	v := byHandRecovery{
		ID: b.ID, System: b.Server.SystemIdentifier, List: list.Name, Settings: settings.Name, ServerVersion: b.Server.Version,
		ServerMajor: b.Server.Major(), SnapshotAt: b.SnapshotAt.UTC().Format(time.RFC3339), StartLSN: p.StartLSN, StopLSN: p.StopLSN,
		WALBytes: p.WALSegmentBytes, FirstSegment: size.Name(size.Segment(wal.Timeline(p.Timeline), start)),
		LastSegment: size.Name(size.Segment(wal.Timeline(p.StopTimeline), max(stop, start+1)-1)),
		Parent:      p.Parent, Manifest: manifest.Name, Kept: p.Parent != "" && p.SQL != nil, Tablespaces: p.Tablespaces, Objects: b.Objects,
		Opening: byhand.NewOpening(b.Seal.Encryption, b.Seal.Compression, postQuantum, `"$1"`, ""),
	}
	return v, nil
}
