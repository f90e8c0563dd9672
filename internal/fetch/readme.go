package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/pgmedic/pgmedic"
)

// hashed reads an object as it is stored. Its EOF says that it is what was recorded.
type hashed struct {
	r    io.Reader
	of   pgmedic.Object
	hash hash.Hash
	n    int64
}

func newHashed(r io.Reader, of pgmedic.Object) *hashed {
	return &hashed{r: r, of: of, hash: sha256.New()}
}

// Read implements io.Reader.
func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	h.n += int64(n)
	if errors.Is(err, io.EOF) && (h.n != h.of.StoredBytes || hex.EncodeToString(h.hash.Sum(nil)) != h.of.SHA256) {
		return n, pgmedic.Errorf(pgmedic.KindIntegrity, "use another copy of this backup, or another backup", "corrupt: %s is not what was recorded", h.of.Name)
	}
	return n, err
}

// readme says what the files are and how they are loaded. Nothing in it is a name of the
// database's: a person may copy commands from it.
func (f *fetching) readme() string {
	b := f.Backup
	head := fmt.Sprintf("Backup %s, taken at %s of PostgreSQL %s, fetched by pgmedic.\n\n", b.ID, b.SnapshotAt.UTC().Format("2006-01-02 15:04:05Z"), b.Server.Version)
	switch {
	case f.Sealed:
		return head + "These files are as they are stored: compressed, and encrypted if the backup is.\nRECOVER.md says how they are restored without pgmedic.\n"
	case f.chosen != nil:
		return head + "These files are not encrypted. They are the rows of some tables; the tables must be there.\n\n" +
			"  psql -X -v ON_ERROR_STOP=1 -d DATABASE -f load.sql        # in this folder\n\n" +
			"data/ has the rows of each table, as COPY writes them: .copy is text, .copyb is binary.\n"
	case b.Method == pgmedic.MethodPlain:
		return head + "These files are not encrypted.\n\n" +
			"  createdb --template=template0 DATABASE\n  psql -X -v ON_ERROR_STOP=1 -d DATABASE -f dump.sql\n\n" +
			"globals.sql has the roles and tablespaces of the whole server.\n"
	}
	return head + "These files are not encrypted.\n\n" +
		"  createdb --template=template0 DATABASE\n" +
		"  pg_restore --exit-on-error --section=pre-data -d DATABASE schema.dump\n" +
		"  psql -X -v ON_ERROR_STOP=1 -d DATABASE -f load.sql        # in this folder\n" +
		"  pg_restore --exit-on-error --section=data -d DATABASE rest.dump   # or schema.dump, if there is no rest.dump\n" +
		"  pg_restore --exit-on-error --section=post-data -d DATABASE schema.dump\n\n" +
		"data/ has the rows of each table, as COPY writes them: .copy is text, .copyb is binary.\n" +
		"globals.sql has the roles and tablespaces of the whole server.\n"
}
