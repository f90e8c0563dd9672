package collect

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The columns of every answer are named as the fields that take them.

// The bounds of the lists of findings' objects in a Reading.
const (
	keysShown       = 200
	partitionsShown = 50
)

// many reads a whole answer.
func many[T any](rows pgx.Rows) ([]T, error) {
	return pgx.CollectRows(rows, pgx.RowToStructByNameLax[T])
}

// one reads an answer of exactly one row.
func one[T any](rows pgx.Rows) (T, error) {
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByNameLax[T])
}

// utc turns the times of an answer from the machine's zone to UTC.
func utc(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = t.UTC()
		}
	}
}

func scanServer(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		reading.Server
		Database    string
		DatabaseOID uint32
	}
	got, err := one[row](rows)
	if err != nil {
		return err
	}
	r.Server, r.Database, r.DatabaseOID = got.Server, got.Database, got.DatabaseOID
	utc(&r.Server.StartedAt, r.Server.StatsReset)
	return nil
}

func scanPrivileges(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		reading.Privileges
		StatementsAvailable bool
	}
	got, err := one[row](rows)
	if err == nil {
		r.May, r.Server.StatementsAvailable = &got.Privileges, got.StatementsAvailable
	}
	return err
}

func scanSystemIdentifier(rows pgx.Rows, r *reading.Reading) error {
	id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err == nil {
		r.Server.SystemIdentifier = id
	}
	return err
}

func scanSettings(rows pgx.Rows, r *reading.Reading) (err error) {
	r.Server.Settings, err = many[reading.Setting](rows)
	return err
}

func scanExtensions(rows pgx.Rows, r *reading.Reading) (err error) {
	r.Server.Extensions, err = many[reading.Extension](rows)
	return err
}

func scanConnections(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Connections](rows)
	if err == nil {
		r.Connections = &got
	}
	return err
}

// connections returns the section, made if its first query failed.
func connections(r *reading.Reading) *reading.Connections { return made(&r.Connections) }

func scanConnectionsByState(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.StateCount](rows)
	if err == nil {
		connections(r).ByState = got
	}
	return err
}

func scanConnectionsByUser(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.UserCount](rows)
	if err == nil {
		connections(r).ByUser = got
	}
	return err
}

func scanIdleInTransaction(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.IdleSession](rows)
	if err != nil {
		return err
	}
	for i := range got {
		utc(&got[i].BackendStart, &got[i].TransactionStart)
	}
	connections(r).IdleInTransaction = got
	return nil
}

func scanCache(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Cache](rows)
	if err != nil {
		return err
	}
	utc(got.StatsReset)
	r.Cache = &got
	return nil
}

// tables returns the section, made if its first query failed.
func tables(r *reading.Reading) *reading.Tables { return made(&r.Tables) }

func scanTables(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Total int
		reading.Table
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	tables := tables(r)
	tables.Items = make([]reading.Table, len(got))
	for i, g := range got {
		utc(g.LastVacuum, g.LastAutovacuum, g.LastAnalyze, g.LastAutoanalyze, g.LastSeqScan, g.LastIdxScan)
		tables.Items[i], tables.Total = g.Table, g.Total
	}
	return nil
}

func scanExactSizes(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		OID uint32
		// A table that was dropped meanwhile has no sizes.
		TotalBytes, TableBytes, IndexBytes, ToastBytes *int64
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	measured := map[uint32]row{}
	for _, g := range got {
		if g.TotalBytes != nil && g.TableBytes != nil && g.IndexBytes != nil && g.ToastBytes != nil {
			measured[g.OID] = g
		}
	}
	for i := range tables(r).Items {
		t := &r.Tables.Items[i]
		g, ok := measured[t.OID]
		if !ok {
			r.Skipped = append(r.Skipped, reading.Skipped{
				Section: reading.SectionTables, Query: "exact size of " + sqltext.ReadableTable(t.Schema, t.Name),
				Reason: "somebody holds it locked, or it is being dropped",
			})
			continue
		}
		t.Exact = true
		t.TotalBytes, t.TableBytes, t.IndexBytes, t.ToastBytes = *g.TotalBytes, *g.TableBytes, *g.IndexBytes, *g.ToastBytes
	}
	slices.SortStableFunc(r.Tables.Items, func(a, b reading.Table) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
	return nil
}

func scanWithoutPrimaryKey(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.KeylessTable](rows)
	if err != nil {
		return err
	}
	tables := tables(r)
	tables.WithoutPrimaryKeyTotal = len(got)
	tables.WithoutPrimaryKey = got[:min(len(got), keysShown)]
	for i := range tables.WithoutPrimaryKey {
		// An expression in it can hold literals.
		tables.WithoutPrimaryKey[i].PartitionKey = statementText(r, tables.WithoutPrimaryKey[i].PartitionKey)
	}
	return nil
}

// foreignKeyLeaf is one table that lacks the index of one foreign key.
type foreignKeyLeaf struct {
	reading.ForeignKey
	LeafSchema, LeafName string
	QuotedColumns        []string
	Predicates           []string
}

func scanForeignKeys(rows pgx.Rows, r *reading.Reading) error {
	leaves, err := many[foreignKeyLeaf](rows)
	if err != nil {
		return err
	}
	locked := 0
	leaves = slices.DeleteFunc(leaves, func(l foreignKeyLeaf) bool {
		if slices.Contains(l.Predicates, "") {
			locked++
			return true // one of them may support the key
		}
		return slices.ContainsFunc(l.Predicates, func(p string) bool { return impliedByKey(p, l.QuotedColumns) })
	})
	if locked > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionIndexes, Query: "foreign keys without index",
			Reason: words.Plural(locked, "key") + " of tables that somebody holds or awaits an exclusive lock on, with indexes that have a condition",
		})
	}
	keys := gatherForeignKeys(leaves)
	x := made(&r.Indexes)
	x.ForeignKeysWithoutIndex, x.ForeignKeysWithoutIndexTotal = keys[:min(len(keys), keysShown)], len(keys)
	return nil
}

// gatherForeignKeys makes one key of those that the partitions of one table
// have over the same columns to the same table, largest first. Leaves arrive
// largest first.
func gatherForeignKeys(leaves []foreignKeyLeaf) []reading.ForeignKey {
	keys := []reading.ForeignKey{}
	at := map[string]int{}
	counted := map[string]bool{}
	for _, l := range leaves {
		id := strings.Join(append([]string{l.Schema, l.Table, l.ReferencedSchema, l.ReferencedTable}, l.Columns...), "\x00")
		i, seen := at[id]
		if !seen {
			i = len(keys)
			at[id] = i
			keys = append(keys, l.ForeignKey)
			keys[i].EstimatedBytes, keys[i].EstimatedRows = 0, 0
			keys[i].PartitionsWithout = []reading.Relation{}
		}
		k := &keys[i]
		k.OnParent = k.OnParent || l.OnParent
		// A table can hold the same key twice.
		leafID := strings.Join([]string{id, l.LeafSchema, l.LeafName}, "\x00")
		if counted[leafID] {
			continue
		}
		counted[leafID] = true
		k.EstimatedBytes += l.EstimatedBytes
		k.EstimatedRows += l.EstimatedRows
		if !k.Partitioned {
			continue
		}
		k.PartitionsWithoutTotal++
		if len(k.PartitionsWithout) < partitionsShown {
			k.PartitionsWithout = append(k.PartitionsWithout, reading.Relation{Schema: l.LeafSchema, Name: l.LeafName})
		}
	}
	slices.SortStableFunc(keys, func(a, b reading.ForeignKey) int { return cmp.Compare(b.EstimatedBytes, a.EstimatedBytes) })
	return keys
}

// impliedByKey reports whether every row with a foreign key value is in a
// partial index: its predicate says no more than that key columns are NOT
// NULL. Columns are quoted as the server's own quote_ident does it.
func impliedByKey(predicate string, quotedColumns []string) bool {
	for _, c := range quotedColumns {
		predicate = strings.ReplaceAll(predicate, "("+c+" IS NOT NULL)", "")
	}
	predicate = strings.NewReplacer("(", " ", ")", " ").Replace(predicate)
	for _, word := range strings.Fields(predicate) {
		if word != "AND" {
			return false
		}
	}
	return true
}
