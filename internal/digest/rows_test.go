package digest_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// binaryStream is what COPY writes in its binary form.
func binaryStream(rows [][][]byte) []byte {
	b := []byte("PGCOPY\n\xff\r\n\x00")
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, 3)
	b = append(b, "ext"...) // of a header to come
	for _, row := range rows {
		b = binary.BigEndian.AppendUint16(b, uint16(len(row)))
		for _, value := range row {
			if value == nil {
				b = binary.BigEndian.AppendUint32(b, 0xffffffff)
				continue
			}
			b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
			b = append(b, value...)
		}
	}
	return binary.BigEndian.AppendUint16(b, 0xffff)
}

func textStream(rows [][][]byte) []byte {
	var b []byte
	for _, row := range rows {
		for i, value := range row {
			if i > 0 {
				b = append(b, '\t')
			}
			if value == nil {
				value = []byte(`\N`)
			}
			b = append(b, value...)
		}
		b = append(b, '\n')
	}
	return b
}

// feed writes a stream in pieces of up to size bytes.
func feed(t *testing.T, r *digest.Rows, stream []byte, size int) *digest.Rows {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(len(stream)), uint64(size)))
	for len(stream) > 0 {
		n := 1 + random.IntN(size)
		n = min(n, len(stream))
		if _, err := r.Write(stream[:n]); err != nil {
			t.Fatal(err)
		}
		stream = stream[n:]
	}
	return r
}

func someRows() [][][]byte {
	rows := [][][]byte{{}, {nil, nil}, {[]byte(""), nil}, {nil, []byte("")}, {[]byte("a"), []byte("b")}, {[]byte("ab"), []byte("")}}
	more := 200
	if testkit.Race {
		more = 60
	}
	for i := range more {
		rows = append(rows, [][]byte{fmt.Appendf(nil, "%d", i), bytes.Repeat([]byte{'a' + byte(i%26)}, i*7), nil})
	}
	return rows
}

// TestRows sums streams cut anywhere, with their rows in any order, and finds every
// single change.
func TestRows(t *testing.T) {
	for format, stream := range map[pgmedic.CopyFormat]func([][][]byte) []byte{
		pgmedic.CopyBinary: binaryStream, pgmedic.CopyText: textStream,
	} {
		t.Run(string(format), func(t *testing.T) {
			rows := someRows()
			sum := func(rows [][][]byte, size int) digest.Sum {
				t.Helper()
				r := feed(t, &digest.Rows{Format: format}, stream(rows), size)
				if r.Count() != int64(len(rows)) || !r.Complete() {
					t.Fatalf("%d rows, complete %v, want %d", r.Count(), r.Complete(), len(rows))
				}
				return r.Sum()
			}
			want := sum(rows, 1<<20)
			for _, size := range []int{1, 2, 3, 7, 100, 4096} {
				if got := sum(rows, size); got != want {
					t.Errorf("in pieces of %d: %s, want %s", size, got, want)
				}
			}
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			if got := sum(rows, 1<<20); got != want {
				t.Errorf("in another order: %s, want %s", got, want)
			}
			var parts digest.Sum
			for _, row := range rows {
				parts.Add(sum([][][]byte{row}, 64))
			}
			if parts != want {
				t.Errorf("added up: %s, want %s", parts, want)
			}
			for i := range rows {
				without := append(append([][][]byte{}, rows[:i]...), rows[i+1:]...)
				if sum(without, 1<<20) == want {
					t.Errorf("row %d is not in the sum", i)
				}
				if twice := slices.Concat(without, rows[i:i+1], rows[i:i+1]); sum(twice, 1<<20) == want {
					t.Errorf("row %d counts once where it is twice", i)
				}
			}
		})
	}
}

// TestFieldsAreNotRunTogether: the same bytes in other fields are another row.
func TestFieldsAreNotRunTogether(t *testing.T) {
	for format, stream := range map[pgmedic.CopyFormat]func([][][]byte) []byte{
		pgmedic.CopyBinary: binaryStream, pgmedic.CopyText: textStream,
	} {
		seen := map[digest.Sum]string{}
		for _, row := range [][][]byte{
			{[]byte("ab"), []byte("c")}, {[]byte("a"), []byte("bc")}, {[]byte("abc"), nil}, {nil, []byte("abc")}, {[]byte("abc"), []byte("")},
		} {
			sum := feed(t, &digest.Rows{Format: format}, stream([][][]byte{row}), 8).Sum()
			if other, ok := seen[sum]; ok {
				t.Errorf("%s: %q and %s have one sum", format, row, other)
			}
			seen[sum] = fmt.Sprintf("%q", row)
		}
	}
}

func TestOrder(t *testing.T) {
	one := feed(t, &digest.Rows{Order: []int{2, 0, 1}}, []byte("b\tc\ta\n2\t3\t1\n"), 3)
	other := feed(t, &digest.Rows{}, []byte("1\t2\t3\na\tb\tc\n"), 3)
	if one.Sum() != other.Sum() || !one.Complete() || one.Count() != 2 {
		t.Errorf("%s of %d rows and %s differ", one.Sum(), one.Count(), other.Sum())
	}
	if odd := feed(t, &digest.Rows{Order: []int{1, 0}}, []byte("1\t2\t3\n"), 3); odd.Count() != 1 {
		t.Errorf("%d rows of a line with another number of fields", odd.Count())
	}
}

func TestRowsNotCopy(t *testing.T) {
	whole := binaryStream(someRows())
	for name, stream := range map[string][]byte{
		"another signature": append([]byte("PGDUMP"), whole[6:]...),
		"after the end":     append(append([]byte{}, whole...), 0),
		"field count -2":    append(append([]byte{}, whole[:len(whole)-2]...), 0xff, 0xfe),
		"a length of -2":    append(append([]byte{}, whole[:len(whole)-2]...), 0, 1, 0xff, 0xff, 0xff, 0xfe),
	} {
		r := &digest.Rows{Format: pgmedic.CopyBinary}
		if _, err := r.Write(stream); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for cut := range whole {
		r := &digest.Rows{Format: pgmedic.CopyBinary}
		if _, err := r.Write(whole[:cut]); err != nil || r.Complete() {
			t.Fatalf("cut after %d bytes: complete %v, error %v", cut, r.Complete(), err)
		}
	}
	if r := feed(t, &digest.Rows{}, []byte("a\nb"), 8); r.Complete() {
		t.Error("text that ends within a row is complete")
	}
}

func TestSumText(t *testing.T) {
	sum := feed(t, &digest.Rows{}, []byte("a\n"), 8).Sum()
	text, err := json.Marshal(map[string]digest.Sum{"sum": sum})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]digest.Sum
	if err := json.Unmarshal(text, &back); err != nil || back["sum"] != sum {
		t.Errorf("%s became %s: %v", sum, back["sum"], err)
	}
	for _, bad := range []string{"", "12", sum.String() + "00", "g" + sum.String()[1:]} {
		if err := new(digest.Sum).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a sum", bad)
		}
	}
}

// FuzzRows cuts any bytes in two places: they mean the same in three writes as in
// one.
func FuzzRows(f *testing.F) {
	f.Add(binaryStream(someRows()[:10]), 5, 20)
	f.Add([]byte("PGCOPY\n\xff\r\n\x00"), 1, 2)
	f.Fuzz(func(t *testing.T, stream []byte, a, b int) {
		a, b = max(0, min(a, len(stream))), max(0, min(b, len(stream)))
		a, b = min(a, b), max(a, b)
		one, three := &digest.Rows{Format: pgmedic.CopyBinary}, &digest.Rows{Format: pgmedic.CopyBinary}
		_, oneErr := one.Write(stream)
		var threeErr error
		for _, p := range [][]byte{stream[:a], stream[a:b], stream[b:]} {
			if _, threeErr = three.Write(p); threeErr != nil {
				break
			}
		}
		if (oneErr == nil) != (threeErr == nil) || one.Sum() != three.Sum() || one.Count() != three.Count() || one.Complete() != three.Complete() {
			t.Errorf("%s, %d, %v against %s, %d, %v", one.Sum(), one.Count(), oneErr, three.Sum(), three.Count(), threeErr)
		}
	})
}
