package scratchtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgmedic/pgmedic/internal/scratch"
)

// copyingInitdb makes a cluster by copying the one that the real initdb made for
// the same arguments the first time. Its own are: --pgdata FOLDER MORE...
const copyingInitdb = `#!/bin/sh
set -eu
data=$2
shift 2
made=clusters/$(printf '%s\n' "$@" | cksum | tr ' ' -)
cd "$(dirname "$0")/.."
if ! [ -d "$made" ]; then
	new=$(mktemp -d clusters/new-XXXXXX)
	"INITDB" --pgdata "$new" "$@"
	# Another one may have been quicker: then this lands inside of it, unseen.
	mv "$new" "$made"
fi
cp -R -p "$made/." "$data"
rm -rf "$data"/new-*
`

// Programs returns a bin folder of the server's programs, whose initdb takes a
// tenth of the time: it copies what the real one made. All its clusters have the
// same system identifier, so it is for drills, of which nobody asks that, and not
// for tests of starting a server. The folder ends with the server.
func Programs(server *scratch.Server) (binDir string, err error) {
	dir := filepath.Join(server.Dir(), "programs")
	binDir = filepath.Join(dir, "bin")
	if err := os.MkdirAll(binDir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder of programs: %w", err)
	}
	programs, err := filepath.Glob(filepath.Join(server.BinDir(), "*"))
	if err != nil {
		return "", err
	}
	for _, program := range programs {
		if name := filepath.Base(program); name != "initdb" {
			if err := os.Symlink(program, filepath.Join(binDir, name)); err != nil {
				return "", err
			}
		}
	}
	text := strings.ReplaceAll(copyingInitdb, "INITDB", filepath.Join(server.BinDir(), "initdb"))
	if err := os.WriteFile(filepath.Join(binDir, "initdb"), []byte(text), 0o755); err != nil {
		return "", err
	}
	clusters := filepath.Join(dir, "clusters")
	if err := os.Mkdir(clusters, 0o755); err != nil {
		return "", err
	}
	// The server's user writes there. Nobody else passes the server's folder.
	return binDir, os.Chmod(clusters, 0o777)
}
