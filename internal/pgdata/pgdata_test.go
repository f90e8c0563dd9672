package pgdata_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/wal"
)

func TestNames(t *testing.T) {
	for path, want := range map[string]struct {
		relation bool
		segment  uint32
		database uint32
	}{
		"base/5/16384":      {true, 0, 5},
		"base/5/16384.12":   {true, 12, 5},
		"base/5/16384_fsm":  {true, 0, 5},
		"base/5/16384_vm.3": {true, 3, 5},
		"base/5/16384_init": {true, 0, 5},
		"global/1262":       {true, 0, 0},
		"pg_tblspc/16400/PG_15_202209061/5/16384.1":  {true, 1, 5},
		"base/5/pg_internal.init":                    {false, 0, 5},
		"base/5/pg_internal.init.123":                {false, 123, 5},
		"base/5/PG_VERSION":                          {false, 0, 5},
		"base/5/pg_filenode.map":                     {false, 0, 5},
		"base/5/16384_foo":                           {false, 0, 5},
		"base/5/t3_16384":                            {false, 0, 5},
		"base/16384":                                 {false, 0, 0},
		"base/5/6/16384":                             {false, 0, 0},
		"global/pg_control":                          {false, 0, 0},
		"pg_tblspc/16400/16384":                      {false, 0, 0},
		"pg_xact/0000":                               {false, 0, 0},
		"base/5/16384.99999999999999999999999999999": {true, 0, 5},
		"16384": {false, 0, 0},
		"":      {false, 0, 0},
	} {
		if got := pgdata.IsRelation(path); got != want.relation {
			t.Errorf("%q holds pages: %t", path, got)
		}
		if got := pgdata.SegmentNumber(path); got != want.segment {
			t.Errorf("%q is segment %d, want %d", path, got, want.segment)
		}
		if got := pgdata.DatabaseOf(path); got != want.database {
			t.Errorf("%q is of database %d, want %d", path, got, want.database)
		}
	}
}

// naiveChecksum follows PostgreSQL's checksum_impl.h word by word.
func naiveChecksum(page []byte, block uint32, bases [32]uint32) uint16 {
	sums := bases
	mix := func(sum, value uint32) uint32 {
		v := sum ^ value
		return v*16777619 ^ v>>17
	}
	copied := bytes.Clone(page)
	copied[8], copied[9] = 0, 0
	for i := range len(page) / 4 {
		sums[i%32] = mix(sums[i%32], binary.LittleEndian.Uint32(copied[i*4:]))
	}
	result := uint32(0)
	for i := range sums {
		result ^= mix(mix(sums[i], 0), 0)
	}
	return uint16((result^block)%65535 + 1)
}

// TestChecksum compares the checksum that keeps sums in registers with one that does not, over
// random pages of each size. That both are PostgreSQL's show the base backups of servers with
// checksums.
func TestChecksum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1 << 10, 8 << 10, 32 << 10} {
		for range 20 {
			page, block := make([]byte, size), rng.Uint32()
			for i := range page {
				page[i] = byte(rng.Uint32())
			}
			if got, want := pgdata.Checksum(page, block), naiveChecksum(page, block, pgdata.OffsetBases()); got != want {
				t.Fatalf("a page of %d bytes: %d, want %d", size, got, want)
			}
		}
	}
}

// page makes a page that is right.
func page(lsn uint64, block uint32) []byte {
	b := make([]byte, 8192)
	le := binary.LittleEndian
	le.PutUint32(b, uint32(lsn>>32))
	le.PutUint32(b[4:], uint32(lsn))
	le.PutUint16(b[12:], 40)
	le.PutUint16(b[14:], 8000)
	le.PutUint16(b[16:], 8192)
	le.PutUint16(b[18:], 8192|4)
	b[8100] = 1
	le.PutUint16(b[8:], pgdata.Checksum(b, block))
	return b
}

// TestEveryFlip: any bit of a page that is changed is noticed by its checksum, unless the page
// says that it was written after the backup began.
func TestEveryFlip(t *testing.T) {
	o := pgdata.PageOptions{BlockBytes: 8192, Checksums: true, Start: 1000}
	good := page(999, 7)
	if pgdata.CheckPage(good, 7, o) != pgdata.PageRight || pgdata.CheckPage(good, 8, o) != pgdata.PageChecksum {
		t.Error("a right page, or one of another block")
	}
	for i := 8; i < len(good); i++ { // before it is the position
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if pgdata.CheckPage(bad, 7, o) == pgdata.PageRight {
			t.Errorf("byte %d is wrong", i)
		}
	}
	newer := page(1000, 7)
	newer[5000] ^= 1
	if pgdata.CheckPage(newer, 7, o) != pgdata.PageRight {
		t.Error("a page that was written meanwhile is not for the check")
	}
	if empty := make([]byte, 8192); pgdata.CheckPage(empty, 7, o) != pgdata.PageRight {
		t.Error("a page that was never used")
	}
	almost := make([]byte, 8192)
	almost[5000] = 1
	if pgdata.CheckPage(almost, 7, o) != pgdata.PageHeader {
		t.Error("a page without a header that is not empty")
	}
}

func TestHeaders(t *testing.T) {
	o := pgdata.PageOptions{BlockBytes: 8192, Start: 1000}
	if pgdata.CheckPage(page(999, 7), 8, o) != pgdata.PageRight {
		t.Error("a right page without a checksum")
	}
	for name, change := range map[string]func([]byte){
		"flags":            func(b []byte) { b[11] = 0xff },
		"lower":            func(b []byte) { b[12], b[13] = 1, 0 },
		"lower over upper": func(b []byte) { binary.LittleEndian.PutUint16(b[12:], 8100) },
		"upper":            func(b []byte) { binary.LittleEndian.PutUint16(b[14:], 9000) },
		"special":          func(b []byte) { binary.LittleEndian.PutUint16(b[16:], 8193) },
		"alignment":        func(b []byte) { binary.LittleEndian.PutUint16(b[16:], 8190) },
		"version":          func(b []byte) { b[18] = 3 },
		"size":             func(b []byte) { b[19] = 0x40 },
	} {
		b := page(999, 7)
		change(b)
		if pgdata.CheckPage(b, 7, o) != pgdata.PageHeader {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// control makes a pg_control of a version.
func control(version uint32) []byte {
	b := make([]byte, pgdata.ControlBytes)
	le := binary.LittleEndian
	le.PutUint64(b, 7123456789012345678)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], 202209061)
	le.PutUint64(b[32:], 0x5000060)
	le.PutUint64(b[40:], 0x5000028)
	le.PutUint32(b[48:], 3)
	const at = 208
	le.PutUint64(b[at:], math.Float64bits(1234567))
	le.PutUint32(b[at+8:], 8192)
	le.PutUint32(b[at+12:], 131072)
	le.PutUint32(b[at+20:], 16<<20)
	le.PutUint32(b[at+44:], 1)
	sum := at + 80
	if version >= 1800 {
		sum += 4
	}
	le.PutUint32(b[sum:], crc32.Checksum(b[:sum], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestControl(t *testing.T) {
	for _, version := range []uint32{1201, 1300, 1800} {
		good := control(version)
		c, err := pgdata.ParseControl(good)
		want := pgdata.Control{
			SystemIdentifier: 7123456789012345678, ControlVersion: version, CatalogVersion: 202209061, Checkpoint: 0x5000060, Redo: 0x5000028,
			Timeline: 3, BlockBytes: 8192, SegmentBytes: 1 << 30, WALSegment: 16 << 20, Checksums: true,
		}
		if err != nil || c != want {
			t.Fatalf("%+v, %v", c, err)
		}
		for i := range 288 {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			if _, err := pgdata.ParseControl(bad); err == nil {
				t.Errorf("version %d: byte %d is wrong", version, i)
			}
		}
		if _, err := pgdata.ParseControl(good[:511]); err == nil {
			t.Error("a short one is read")
		}
	}
	if _, err := pgdata.ParseControl(control(1900)); err == nil {
		t.Error("a version to come is read")
	}
}

func TestLabel(t *testing.T) {
	const text = "START WAL LOCATION: 0/8000028 (file 000000020000000000000008)\nCHECKPOINT LOCATION: 0/8000060\nBACKUP METHOD: streamed\nBACKUP FROM: %s\n" +
		"START TIME: 2026-11-30 01:00:00 UTC\nLABEL: pgmedic\nSTART TIMELINE: 2\n"
	for from, standby := range map[string]bool{"primary": false, "master": false, "standby": true} {
		l, err := pgdata.ParseLabel(fmt.Appendf(nil, text, from))
		if want := (pgdata.Label{Start: 0x8000028, Checkpoint: 0x8000060, Timeline: wal.Timeline(2), FromStandby: standby}); err != nil || l != want {
			t.Errorf("%+v, %v", l, err)
		}
	}
	for _, missing := range []string{"START WAL", "CHECKPOINT", "BACKUP FROM", "START TIMELINE"} {
		if _, err := pgdata.ParseLabel([]byte(strings.Replace(fmt.Sprintf(text, "primary"), missing, "X", 1))); err == nil {
			t.Errorf("without %s it is read", missing)
		}
	}
	if _, err := pgdata.ParseLabel(fmt.Appendf(bytes.Repeat([]byte("x\n"), pgdata.MaxLabelBytes), text, "primary")); err == nil {
		t.Error("one that is too large is read")
	}
}

// manifest makes a server's manifest of files.
func manifest(files string) []byte {
	text := "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" + files + "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/8000028\", \"End-LSN\": \"0/8000100\" }\n],\n"
	sum := sha256.Sum256([]byte(text))
	return []byte(text + "\"Manifest-Checksum\": \"" + hex.EncodeToString(sum[:]) + "\"}\n")
}

const manifestFiles = `{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-11-30 01:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "979de331" },
{ "Encoded-Path": "62ff", "Size": 0, "Last-Modified": "2026-11-30 01:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }`

func TestManifest(t *testing.T) {
	read := func(text []byte) (files []pgdata.ManifestFile, sum string, err error) {
		sum, err = pgdata.ReadManifest(iotest.OneByteReader(bytes.NewReader(text)), func(f pgdata.ManifestFile) error {
			files = append(files, f)
			return nil
		})
		return files, sum, err
	}
	good := manifest(manifestFiles)
	files, sum, err := read(good)
	whole := sha256.Sum256(good)
	if err != nil || len(files) != 2 || files[0] != (pgdata.ManifestFile{Path: "backup_label", SizeBytes: 227, CRC32C: 0x31e39d97}) ||
		files[1].Path != "b\xff" || sum != hex.EncodeToString(whole[:]) {
		t.Fatalf("%+v, %s, %v", files, sum, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, _, err := read(bad); err == nil {
			t.Errorf("byte %d is wrong: %s", i, bad[max(0, i-20):min(len(bad), i+20)])
		}
		if _, _, err := read(good[:i]); !errors.Is(err, pgdata.ErrManifest) {
			t.Errorf("cut at byte %d: %v", i, err)
		}
	}
	for name, files := range map[string]string{
		"another algorithm": strings.ReplaceAll(manifestFiles, "CRC32C", "SHA256"), "no checksum": strings.Replace(manifestFiles, "979de331", "", 1),
		"a negative size": strings.Replace(manifestFiles, "227", "-1", 1), "a path that is not hex": strings.Replace(manifestFiles, "62ff", "xx", 1),
		"not a list of files": "[]",
	} {
		if _, _, err := read(manifest(files)); !errors.Is(err, pgdata.ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing without an end is held in memory.
	for name, endless := range map[string]string{"a text": `{"PostgreSQL-Backup-Manifest-Version": "x`, "a name": `{"x`, "a list of lists": `{"x": [`} {
		filler := strings.Repeat(endless[len(endless)-1:]+"\n", 1000)
		if name != "a list of lists" {
			filler = strings.Repeat("x", 2000)
		}
		if _, err := pgdata.ReadManifest(io.MultiReader(strings.NewReader(endless), &endlessReader{filler}), func(pgdata.ManifestFile) error { return nil }); !errors.Is(err, pgdata.ErrManifest) {
			t.Errorf("%s without an end: %v", name, err)
		}
	}
	lost := errors.New("the connection is lost")
	if _, err := pgdata.ReadManifest(io.MultiReader(bytes.NewReader(good[:100]), iotest.ErrReader(lost)), func(pgdata.ManifestFile) error { return nil }); !errors.Is(err, lost) {
		t.Errorf("a lost connection: %v", err)
	}
	stop := errors.New("stop")
	if _, err := pgdata.ReadManifest(bytes.NewReader(good), func(pgdata.ManifestFile) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the caller: %v", err)
	}
}

// endlessReader repeats a text.
type endlessReader struct{ text string }

func (r *endlessReader) Read(p []byte) (int, error) { return copy(p, r.text), nil }

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o600
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFiles(t *testing.T) {
	good := archive(t, tar.Header{Name: "PG_15/", Typeflag: tar.TypeDir}, tar.Header{Name: "PG_15/5/16384", Typeflag: tar.TypeReg, Size: 700})
	var got []string
	err := pgdata.Files(bytes.NewReader(good), 16400, func(e pgdata.Entry, content io.Reader) error {
		b, err := io.ReadAll(content)
		got = append(got, fmt.Sprintf("%s %t %d %d %o", e.Path, e.Folder, e.SizeBytes, len(b), e.Mode))
		return err
	})
	if want := "pg_tblspc/16400/PG_15 true 0 0 600,pg_tblspc/16400/PG_15/5/16384 false 700 700 600"; err != nil || strings.Join(got, ",") != want {
		t.Errorf("%q, %v", got, err)
	}
	none := func(pgdata.Entry, io.Reader) error { return nil }
	for name, h := range map[string]tar.Header{
		"a link":                   {Name: "pg_tblspc/1", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		"a hard link":              {Name: "a", Typeflag: tar.TypeLink, Linkname: "b"},
		"a device":                 {Name: "a", Typeflag: tar.TypeBlock},
		"out of the folder":        {Name: "../a", Typeflag: tar.TypeReg},
		"out of it, inside":        {Name: "base/../../a", Typeflag: tar.TypeReg},
		"an absolute path":         {Name: "/etc/passwd", Typeflag: tar.TypeReg},
		"a path that is not clean": {Name: "base//5", Typeflag: tar.TypeReg},
		"a file without a name":    {Name: ".", Typeflag: tar.TypeReg},
	} {
		if err := pgdata.Files(bytes.NewReader(archive(t, h)), 0, none); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := pgdata.Files(strings.NewReader(strings.Repeat("hello", 500)), 0, none); err == nil {
		t.Error("what is not an archive is taken")
	}
	cut := pgdata.Files(bytes.NewReader(good[:1300]), 0, func(_ pgdata.Entry, content io.Reader) error { _, err := io.ReadAll(content); return err })
	if cut == nil {
		t.Error("an archive that is cut is taken")
	}
	lost := errors.New("the connection is lost")
	if err := pgdata.Files(io.MultiReader(bytes.NewReader(good[:1300]), iotest.ErrReader(lost)), 0, none); !errors.Is(err, lost) {
		t.Errorf("a lost connection: %v", err)
	}
}

// FuzzFiles reads any bytes as an archive: no path leads out of the folder.
func FuzzFiles(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "base/5/1", Typeflag: tar.TypeReg, Size: 10}))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = pgdata.Files(bytes.NewReader(text), 0, func(e pgdata.Entry, content io.Reader) error {
			if strings.HasPrefix(e.Path, "/") || strings.HasPrefix(e.Path, "..") || strings.Contains(e.Path, "/../") {
				t.Errorf("%q", e.Path)
			}
			_, err := io.Copy(io.Discard, content)
			return err
		})
	})
}

// FuzzManifest reads any text as a server's manifest.
func FuzzManifest(f *testing.F) {
	f.Add(manifest(manifestFiles))
	f.Fuzz(func(t *testing.T, text []byte) {
		if sum, err := pgdata.ReadManifest(bytes.NewReader(text), func(pgdata.ManifestFile) error { return nil }); (err == nil) != (len(sum) == 64) {
			t.Errorf("%q, %v", sum, err)
		}
	})
}
