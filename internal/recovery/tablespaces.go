package recovery

import (
	"path"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Relocate says where each tablespace goes: those of the base backup, and those that WAL
// creates on the way. Moves are OLD=NEW, each for the tablespace at OLD; the others stay at
// their path. A move of no tablespace, and one to a path that does not fit into the record
// in the WAL, is a pgmedic.KindUsage error.
func Relocate(base []pgmedic.Tablespace, created []wal.Note, moves []string) (all []Tablespace, err error) {
	to := map[string]string{}
	for _, move := range moves {
		from, into, ok := strings.Cut(move, "=")
		from, into = path.Clean(from), path.Clean(into)
		if !ok || CheckPlace(from) != nil || CheckPlace(into) != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "write it as --tablespace /srv/old=/srv/new", "--tablespace %.200q is not two absolute paths", move)
		}
		if before, twice := to[from]; twice && before != into {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--tablespace moves %s twice", from)
		}
		to[from] = into
	}
	used := map[string]bool{}
	add := func(oid uint32, from string) error {
		clean := path.Clean(from)
		if err := CheckPlace(clean); err != nil {
			return err
		}
		t := Tablespace{OID: oid, From: clean, To: clean}
		if into, ok := to[clean]; ok {
			t.To, used[clean] = into, true
		}
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
		return nil
	}
	for _, t := range base {
		if err := add(t.OID, t.Location); err != nil {
			return nil, err
		}
	}
	for _, n := range created {
		if n.Name == "" { // it lies in the data folder
			continue
		}
		if err := add(n.OID, n.Name); err != nil {
			return nil, err
		}
		if into := to[path.Clean(n.Name)]; len(into) > len(n.Name) {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "choose a shorter path", "%w", &wal.LongPathError{From: n.Name, To: into})
		}
	}
	for from := range to {
		if !used[from] {
			var known []string
			for _, t := range all {
				known = append(known, t.From)
			}
			hint := "leave it out: the cluster has no tablespaces of its own"
			if len(known) > 0 {
				hint = "the cluster has tablespaces at: " + strings.Join(known[:min(len(known), 20)], " ")
			}
			return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "--tablespace: there is no tablespace at %s", from)
		}
	}
	return all, nil
}
