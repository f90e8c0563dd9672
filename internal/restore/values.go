package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Sums reads the sums of rows that the backup recorded, or nil where there are none that
// this version can compare.
func (s Source) Sums(ctx context.Context) (sums *digest.Database, err error) {
	object, ok := s.Backup.Object(pgmedic.RoleSums)
	if !ok {
		return nil, nil //nolint:nilnil // there are none
	}
	if object.PlainBytes > s.room(16<<20, 512<<10) {
		return nil, s.tooLarge(object)
	}
	r, err := s.Open(ctx, object)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	read, err := digest.Unmarshal(text)
	if err != nil {
		return nil, s.badSums(object)
	}
	if read.Format != digest.Format {
		return nil, nil //nolint:nilnil // another version's
	}
	if s.Backup.Method == pgmedic.MethodPlain && read.LargeObjects == nil {
		return nil, nil //nolint:nilnil // pg_dump wrote values as others than pgmedic would read them
	}
	seen := make(map[int]bool, len(read.Tables))
	for _, t := range read.Tables {
		known := t.Index >= 0 && t.Index < len(s.Backup.Tables) && !seen[t.Index]
		if !known || t.Format != pgmedic.CopyBinary && t.Format != pgmedic.CopyText || len(t.Generated) > 0 && t.GeneratedSum == nil {
			return nil, s.badSums(object)
		}
		seen[t.Index] = true
	}
	return &read, nil
}

func (s Source) badSums(o pgmedic.Object) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s is damaged: %s does not hold the sums of its tables", s.Backup.ID, o.Name)
}

// comparison compares the values of a copy with the sums of its backup.
type comparison struct {
	CompareOptions
	sums *digest.Database
	// inArchive is true where the sequences were read from pg_dump's archive.
	inArchive bool

	mu    sync.Mutex
	roots map[string]*rootSum // by the name under which the table's rows are counted
	wrong []string
	// unread are what the role may not read, or could not be compared for another
	// reason, each with why.
	unread []string
}

// rootSum is what the backup has of a table and its partitions, and what the copy has.
type rootSum struct {
	want, have tableSum
	missing    []string // tables that are not there
	unreadable []string // tables that lack a column
	generated  []string
	at         int // the place of the first one in the manifest
}

type tableSum struct {
	rows           int64
	sum, generated digest.Sum
}

func (s *tableSum) add(o tableSum) {
	s.rows += o.rows
	s.sum.Add(o.sum)
	s.generated.Add(o.generated)
}

// reading is a part of a table that is to be read.
type reading struct {
	root      *rootSum
	table     snapshot.RowTable
	blocks    snapshot.BlockRange
	bytes     int64
	generated bool // with the generated columns
}

// readAgain is about how many bytes are read at a time of a table that one connection
// would still read when the others have nothing left to do. Other tables are read
// whole: to read by ranges takes the server a third more of a processor's time, since
// each row passes its executor then.
const readAgain = 64 << 20

// readWhole is the size in bytes up to which one of several connections reads a table
// whole.
func readWhole(extents []snapshot.Extent, jobs int) int64 {
	var total int64
	for _, e := range extents {
		total += e.SizeBytes
	}
	if jobs == 1 {
		return total
	}
	return total / int64(2*jobs)
}

// compareRows reads the rows of the copy and compares them.
func (c *comparison) compareRows(ctx context.Context) error {
	parts, err := c.plan(ctx)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, p := range parts {
		total += p.bytes
	}
	meter := progress.NewMeter(progress.MeterOptions{Step: "compare", TotalBytes: total, Report: c.Progress, Now: c.Now})
	queue := make(chan reading, len(parts))
	for _, p := range parts {
		queue <- p
	}
	close(queue)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.Connect(ctx, c.Target) }
	return postgres.Workers(ctx, min(c.jobs(), max(len(parts), 1)), connect, func(ctx context.Context, conn *pgx.Conn) error {
		return c.work(ctx, conn, queue, meter)
	})
}

// plan lists what is to be read, the largest parts first.
func (c *comparison) plan(ctx context.Context) ([]reading, error) {
	conn, err := postgres.Connect(ctx, c.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(c.sums.Tables))
	for i, t := range c.sums.Tables {
		names[i] = sqltext.QuoteQualified(c.Backup.Tables[t.Index].Schema, c.Backup.Tables[t.Index].Name)
	}
	extents, err := snapshot.ReadExtents(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	var parts []reading
	whole := readWhole(extents, c.jobs())
	for i, t := range c.sums.Tables {
		m := c.Backup.Tables[t.Index]
		root, known := c.roots[sqltext.CountedAs(m)]
		if !known {
			root = &rootSum{at: t.Index, generated: t.Generated}
			c.roots[sqltext.CountedAs(m)] = root
		}
		want := tableSum{rows: t.Rows, sum: t.Sum}
		if t.GeneratedSum != nil {
			want.generated = *t.GeneratedSum
		}
		root.want.add(want)
		if !extents[i].There {
			root.missing = append(root.missing, names[i])
			continue
		}
		table := snapshot.RowTable{Schema: m.Schema, Name: m.Name, Format: t.Format, Generated: t.Generated}
		for _, name := range t.Columns {
			table.Columns = append(table.Columns, pgmedic.Column{Name: name})
		}
		blocks := extents[i].HeapBlocks
		if len(table.Columns) == 0 {
			blocks = 1
		}
		chunk := int64(readAgain)
		if extents[i].SizeBytes <= whole {
			chunk = max(chunk, whole)
		}
		ranges := snapshot.Split(blocks, extents[i].SizeBytes, chunk, server.VersionNum)
		for _, b := range ranges {
			part := reading{root: root, table: table, blocks: b, bytes: extents[i].SizeBytes / int64(len(ranges))}
			parts = append(parts, part)
			if len(t.Generated) > 0 {
				part.generated = true
				parts = append(parts, part)
			}
		}
	}
	slices.SortStableFunc(parts, func(a, b reading) int { return int(min(max(b.bytes-a.bytes, -1), 1)) })
	return parts, nil
}

func (c *comparison) work(ctx context.Context, conn *pgx.Conn, queue <-chan reading, meter *progress.Meter) error {
	for p := range queue {
		name := sqltext.QuoteQualified(p.table.Schema, p.table.Name)
		meter.Object(name)
		sql := snapshot.CopyOutSQL(p.table, p.blocks, c.Backup.Database.Encoding)
		if p.generated {
			sql = snapshot.CopyAllSQL(p.table, p.blocks, c.Backup.Database.Encoding)
		}
		rows := &digest.Rows{Format: p.table.Format}
		err := postgres.CopyOut(ctx, conn, rows, sql)
		meter.Add(p.bytes)
		c.mu.Lock()
		switch {
		case postgres.Code(err) == "42703": // a column is not there; the definitions' check says which
			p.root.unreadable = append(p.root.unreadable, name)
			err = nil
		case err != nil:
		case p.generated:
			p.root.have.add(tableSum{generated: rows.Sum()})
		default:
			p.root.have.add(tableSum{rows: rows.Count(), sum: rows.Sum()})
		}
		c.mu.Unlock()
		if err != nil {
			return postgres.Wrap(err, "read table "+name)
		}
	}
	return nil
}

// differing says how each table differs, in the manifest's order, except for the number
// of rows.
func (c *comparison) differing() (wrong []string) {
	names := make([]string, 0, len(c.roots))
	for name := range c.roots {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.roots[a].at - c.roots[b].at })
	for _, name := range names {
		switch r := c.roots[name]; {
		case len(r.missing) > 0 || r.want.rows != r.have.rows && len(r.unreadable) == 0:
			// the count's check says so
		case len(r.unreadable) > 0:
			wrong = append(wrong, strings.Join(r.unreadable, ", ")+" lacks columns that the backup has")
		case r.want.sum != r.have.sum:
			wrong = append(wrong, fmt.Sprintf("%s has %s, as in the backup, with other values", name, words.Plural(r.have.rows, "row")))
		case r.want.generated != r.have.generated:
			wrong = append(wrong, fmt.Sprintf("the generated columns of %s (%s) have other values", name, strings.Join(quoted(r.generated), ", ")))
		}
	}
	return wrong
}

// counts returns how many rows the copy has of each table that was read whole.
func (c *comparison) counts() map[string]int64 {
	counts := make(map[string]int64, len(c.roots))
	for name, r := range c.roots {
		if len(r.missing) == 0 && len(r.unreadable) == 0 {
			counts[name] = r.have.rows
		}
	}
	return counts
}

// outside reads what the backup has besides rows: the values of sequences, and
// large objects. A plain backup recorded them; pg_dump's archive says them itself.
func (c *comparison) outside(ctx context.Context) (err error) {
	if c.sums.LargeObjects != nil || c.Backup.Method == pgmedic.MethodPlain {
		return nil
	}
	tool, err := c.Tools.Find(ctx, "pg_restore", pgtool.AtLeast(c.Backup))
	if err != nil {
		return err
	}
	object, _ := c.Backup.RestObject() // the manifest's check has seen it
	r, err := c.Open(ctx, object)
	if err != nil {
		return err
	}
	in := pgtool.NewInput(r)
	var objects digest.LargeObject
	calls := dumpsql.Calls{LargeObject: &objects, Sequence: func(name string, value int64, called bool) {
		c.sums.Sequences = append(c.sums.Sequences, digest.Sequence{Name: name, Value: value, Called: called})
	}}
	counter := &dumpsql.RowCounter{OnCall: calls.Take}
	process, err := pgtool.StartArchiveScript(ctx, tool, "", in)
	if err == nil {
		_, err = io.Copy(counter, process)
		err = errors.Join(err, process.Close())
	}
	err = errors.Join(in.ReadRest(ctx, err), in.Close())
	if err == nil && !counter.Complete() {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "%s ends in the middle", object.Name)
	}
	total := objects.Total()
	c.sums.LargeObjects, c.inArchive = &total, true
	return err
}

// compareOutside compares the sequences and large objects of the copy.
func (c *comparison) compareOutside(ctx context.Context) (equal []string, err error) {
	conn, err := postgres.Connect(ctx, c.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	names := make([]string, len(c.sums.Sequences))
	for i, s := range c.sums.Sequences {
		names[i] = s.Name
	}
	if c.inArchive { // names are as the archive has them, in the database's encoding
		if names, err = postgres.Decode(ctx, conn, c.Backup.Database.Encoding, names); err != nil {
			return nil, err
		}
		for i, name := range names {
			c.sums.Sequences[i].Name = name
		}
	}
	have, err := snapshot.ReadSequences(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	for _, s := range c.sums.Sequences {
		switch got, there := have[s.Name]; {
		case !there:
			c.wrong = append(c.wrong, "sequence "+s.Name+" is missing")
		case got != snapshot.SequenceValue{Value: s.Value, Called: s.Called}:
			c.wrong = append(c.wrong, "sequence "+s.Name+" has another value")
		}
	}
	if n := len(c.sums.Sequences); n > 0 {
		equal = append(equal, pgmedic.Count(n)+" sequences")
	}
	var objects digest.LargeObject
	err = snapshot.ReadLargeObjects(ctx, conn, &objects)
	switch total := objects.Total(); {
	case postgres.Code(err) == "42501":
		c.unread = append(c.unread, "large objects, which this role may not read")
		return equal, nil
	case err != nil:
		return nil, err
	case total.Count != c.sums.LargeObjects.Count:
		c.wrong = append(c.wrong, fmt.Sprintf("there are %s large objects, the backup has %s",
			pgmedic.Count(total.Count), pgmedic.Count(c.sums.LargeObjects.Count)))
	case total.Sum != c.sums.LargeObjects.Sum:
		c.wrong = append(c.wrong, "large objects have other contents")
	case total.Count > 0:
		equal = append(equal, pgmedic.Count(total.Count)+" large objects")
	}
	return equal, nil
}

// Compared says how the content of a copy was compared, from the checks of Compare.
func Compared(checks []pgmedic.Check) pgmedic.Comparison {
	for _, check := range checks {
		if check.Name == checkValues && check.Outcome != pgmedic.OutcomeSkipped {
			return pgmedic.ComparedValues
		}
	}
	return pgmedic.ComparedCounts
}
