package torture_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestDatabaseLocales brings back databases whose own locale is of a kind that newer
// versions brought: sort order, and so each index, depends on it.
func TestDatabaseLocales(t *testing.T) {
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		server := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir})
		for _, of := range []struct {
			name, locale string
			since        int
		}{
			{"builtin", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'", 17},
			{"full unicode", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'", 18},
			{"rules", "LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '& z < a <<< ''q x''' LOCALE 'C'", 16},
		} {
			if installation.Major < of.since {
				continue
			}
			t.Run(of.name, func(t *testing.T) {
				source := fixture.Place{Server: server, Database: of.name}
				fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+sqltext.QuoteIdent(of.name)+" TEMPLATE template0 ENCODING 'UTF8' "+of.locale)
				fixture.Exec(t, source.DSN(), "CREATE TABLE words (w text PRIMARY KEY, u text GENERATED ALWAYS AS (upper(w)) STORED) PARTITION BY RANGE (w)",
					"CREATE TABLE words_1 PARTITION OF words FOR VALUES FROM (MINVALUE) TO ('m')",
					"CREATE TABLE words_2 PARTITION OF words FOR VALUES FROM ('m') TO (MAXVALUE)",
					"INSERT INTO words SELECT chr(n) || w FROM unnest('{a,Straße,z,q x,É}'::text[]) AS w, generate_series(97, 122) AS n")
				c := fixture.NewCatalog(t)
				o := fixture.BackupOptions(t, source.DSN(), c)
				o.Method, o.Tools.Dirs = backup.Parallel{Jobs: 2}, []string{installation.BinDir}
				b, err := backup.Take(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				into := fixture.RestoreOptions(t, server, c, b, "copy of "+of.name)
				into.Tools = o.Tools
				if _, err := restore.Into(t.Context(), into); err != nil {
					t.Fatal(err)
				}
				fixture.WantEqual(t, source, fixture.Place{Server: server, Database: into.Into})
				if receipt := runDrill(t, installation, c, b); receipt.Proof != pgmedic.ProofProven {
					t.Errorf("proof %s, want proven: %+v", receipt.Proof, receipt.Checks)
				}
			})
		}
	})
}
