package dumpsql_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// readBlocks reads all rows of all tables.
func readBlocks(r io.Reader) (rows map[string]string, columns map[string][]string, err error) {
	rows, columns = map[string]string{}, map[string][]string{}
	b := dumpsql.NewBlocks(r)
	for {
		block, err := b.Next()
		if errors.Is(err, io.EOF) {
			return rows, columns, nil
		}
		if err != nil {
			return rows, columns, err
		}
		data, err := io.ReadAll(b)
		if err != nil {
			return rows, columns, err
		}
		rows[block.Table] += string(data)
		columns[block.Table] = block.Columns
	}
}

// TestBlocks reads the rows that RowCounter counts, however they come.
func TestBlocks(t *testing.T) {
	for name, tt := range rowCases() {
		t.Run(name, func(t *testing.T) {
			for way, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.sql), "bytes": iotest.OneByteReader(strings.NewReader(tt.sql)), "halves": iotest.HalfReader(strings.NewReader(tt.sql)),
			} {
				rows, _, err := readBlocks(r)
				if tt.complete != (err == nil) {
					t.Fatalf("%s: complete is %t: %v", way, tt.complete, err)
				}
				if err != nil {
					if pgmedic.KindOf(err) != pgmedic.KindIntegrity {
						t.Errorf("%s: %v", way, err)
					}
					continue
				}
				got := map[string]int64{}
				for table, text := range rows {
					got[table] = int64(strings.Count(text, "\n"))
				}
				if !maps.Equal(got, tt.want) {
					t.Errorf("%s: got %v, want %v", way, got, tt.want)
				}
			}
		})
	}
}

func TestBlocksColumnsAndSkipping(t *testing.T) {
	const sql = "COPY public.t (a, \"B, (b\"\"\", \"c\nd\", e) FROM stdin;\n1\t2\t3\t4\n\\.\nCOPY \"x.y\".\"z (\"  FROM stdin;\n\n\\.\n" +
		"COPY s.u (only) FROM stdin;\nrow\n\\.x\n\\.\nSELECT 1;\n"
	_, columns, err := readBlocks(strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string][]string{
		`"public"."t"`: {"a", `B, (b"`, "c\nd", "e"}, `"x.y"."z ("`: nil, `"s"."u"`: {"only"},
	} {
		if !slices.Equal(columns[table], want) {
			t.Errorf("%s has %q, want %q", table, columns[table], want)
		}
	}
	b := dumpsql.NewBlocks(iotest.OneByteReader(strings.NewReader(sql)))
	for range 2 {
		if _, err := b.Next(); err != nil { // without reading, or after a part
			t.Fatal(err)
		}
		_, _ = b.Read(make([]byte, 1))
	}
	last, err := b.Next()
	data, readErr := io.ReadAll(b)
	if err != nil || readErr != nil || last.Table != `"s"."u"` || string(data) != "row\n\\.x\n" {
		t.Errorf("the last is %+v with %q: %v, %v", last, data, err, readErr)
	}
}

func TestBlocksPassTheirSourcesErrorOn(t *testing.T) {
	broken := errors.New("broken")
	b := dumpsql.NewBlocks(io.MultiReader(strings.NewReader("COPY t (a) FROM stdin;\nx\n"), iotest.ErrReader(broken)))
	if _, err := b.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); !errors.Is(err, broken) || !errors.Is(b.Failure(), broken) {
		t.Errorf("err = %v, failure %v", err, b.Failure())
	}
}

// FuzzBlocks holds the rows that are read against those that are counted.
func FuzzBlocks(f *testing.F) {
	for _, c := range rowCases() {
		f.Add([]byte(c.sql), 3)
	}
	f.Fuzz(func(t *testing.T, sql []byte, step int) {
		var counter dumpsql.RowCounter
		if _, err := counter.Write(sql); err != nil {
			t.Fatal(err)
		}
		r := io.Reader(bytes.NewReader(sql))
		if step%2 == 0 {
			r = iotest.OneByteReader(r)
		}
		rows, _, err := readBlocks(r)
		if err != nil {
			return // incomplete, or rows that pg_dump does not write
		}
		if !counter.Complete() {
			t.Error("an incomplete dump is read without an error")
		}
		for table, n := range counter.Counts() {
			if got := int64(strings.Count(rows[table], "\n")); got != n {
				t.Errorf("%s: %d rows are read, %d counted", table, got, n)
			}
		}
	})
}
