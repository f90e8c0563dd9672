package dumpfile_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// folderDump makes the folder of a dump of -Fd.
func folderDump(t *testing.T, s *scratch.Server, database string, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "folder")
	run(t, nil, filepath.Join(s.BinDir(), "pg_dump"), append([]string{"-Fd", "-f", dir, "-d", s.DSN(database)}, args...)...)
	return dir
}

// change writes a file of a folder again.
func change(t *testing.T, path string, with func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := with(content)
	if bytes.Equal(changed, content) {
		t.Fatalf("%s is as it was", filepath.Base(path))
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

// text is how an archive has one: with its length.
func text(s string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{0}, uint32(len(s))), s...)
}

var rowsName = regexp.MustCompile(`[0-9]+\.dat`)

// rename gives the file of the first entry that has one another name.
func rename(to string) func([]byte) []byte {
	return func(toc []byte) []byte {
		name := string(rowsName.Find(toc))
		return bytes.Replace(toc, text(name), text(to), 1)
	}
}

// TestFoldersOfStrangers: what names or links to files outside the folder is refused, as a
// folder and as a tar of it.
func TestFoldersOfStrangers(t *testing.T) {
	source := clinic(t, server)
	outside := write(t, []byte("1\tof this host\n\\.\n"))
	lists := func(dir string) string {
		found, err := filepath.Glob(filepath.Join(dir, "blobs*.toc"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%q, %v", found, err)
		}
		return found[0]
	}
	for name, forge := range map[string]func(t *testing.T, dir string){
		"a path in toc.dat": func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "toc.dat"), rename("../"+filepath.Base(outside)))
		},
		"an absolute path": func(t *testing.T, dir string) { change(t, filepath.Join(dir, "toc.dat"), rename(outside)) },
		"a long path": func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "toc.dat"), rename(strings.Repeat("../", 600)+outside))
		},
		"toc.dat is cut": func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "toc.dat"), func(b []byte) []byte { return b[:len(b)-7] })
		},
		"numbers of another size": func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "toc.dat"), func(b []byte) []byte { c := bytes.Clone(b); c[8] = 8; return c })
		},
		"a path of a large object": func(t *testing.T, dir string) {
			change(t, lists(dir), func([]byte) []byte { return []byte("4711 ../x\n") })
		},
		"a second one": func(t *testing.T, dir string) {
			change(t, lists(dir), func(b []byte) []byte { return append(slices.Clone(b), "4712 "+outside...) })
		},
		"a long line": func(t *testing.T, dir string) {
			change(t, lists(dir), func(b []byte) []byte { return append(slices.Clone(b), strings.Repeat("1", 1<<20)...) })
		},
		"rows are a link":          func(t *testing.T, dir string) { link(t, dir, "[0-9]*.dat*", outside) },
		"a large object is a link": func(t *testing.T, dir string) { link(t, dir, "blob_*", outside) },
		"toc.dat is a link":        func(t *testing.T, dir string) { link(t, dir, "toc.dat", outside) },
		"another file": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "map.dat"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folderDump(t, server, source)
			forge(t, dir)
			wantRefused(t, options(t, dir), pgmedic.KindIntegrity, "")
			packed := run(t, nil, "tar", "-cf", "-", "-C", filepath.Dir(dir), filepath.Base(dir))
			wantRefused(t, options(t, write(t, packed)), pgmedic.KindIntegrity, "")
		})
	}
}

// link puts a link in the place of the first file of a pattern.
func link(t *testing.T, dir, pattern, to string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%q, %v", found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, found[0]); err != nil {
		t.Fatal(err)
	}
}

// TestFoldersOfVersions reads the folder of each pg_dump that there is, and no version of
// the format that is not known.
func TestFoldersOfVersions(t *testing.T) {
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		s := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir})
		source := clinic(t, s)
		for _, args := range [][]string{{"-j2"}, {"-Z0"}, {"--schema-only"}, {"--no-blobs"}} {
			dir := folderDump(t, s, source, args...)
			o := options(t, dir)
			o.Tools.Dirs = []string{s.BinDir()}
			f, err := dumpfile.Open(t.Context(), o)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			f.Close()
			if args[0] == "--schema-only" {
				continue
			}
			change(t, filepath.Join(dir, "toc.dat"), rename("/etc/passwd"))
			_, err = dumpfile.Open(t.Context(), o)
			fixture.WantKind(t, err, pgmedic.KindIntegrity, "names a file")
		}
		dir := folderDump(t, s, source)
		change(t, filepath.Join(dir, "toc.dat"), func(b []byte) []byte { c := bytes.Clone(b); c[6] = 17; return c })
		_, err := dumpfile.Open(t.Context(), options(t, dir))
		fixture.WantKind(t, err, pgmedic.KindUsage, "version 1.17")
	})
}
