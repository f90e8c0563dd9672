package monitor_test

import (
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAServerThatGoesMidwayLeavesAPartOfAReport has a look stand at a query that
// takes long, and takes the server away.
func TestAServerThatGoesMidwayLeavesAPartOfAReport(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{TCP: true})
	watch := connect(t, server.DSN("postgres"))
	tests := []struct {
		name string
		opts collect.Options
		gone func(t *testing.T, p *toxiproxy.Proxy)
	}{
		{"cut", collect.Options{QueryTimeout: time.Minute}, func(_ *testing.T, p *toxiproxy.Proxy) { p.Stop() }},
		{"silent", collect.Options{QueryTimeout: 5 * time.Second, Patience: 200 * time.Millisecond}, func(t *testing.T, p *toxiproxy.Proxy) {
			fixture.Poison(t, p, `{"name": "silent", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)
		}},
		{"killed", collect.Options{QueryTimeout: time.Minute}, func(t *testing.T, _ *toxiproxy.Proxy) {
			if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-server.Done() // or the end of the test still asks it to drop the database
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, err := url.Parse(server.URL("template1"))
			if err != nil {
				t.Fatal(err)
			}
			dsn := scratchtest.Database(t, server)
			setUp := connect(t, dsn)
			var database string
			if err := setUp.QueryRow(t.Context(), "SELECT current_database()").Scan(&database); err != nil {
				t.Fatal(err)
			}
			// The query passes an oid, so this is chosen before the real one.
			exec(t, setUp, "CREATE TABLE slow (id int PRIMARY KEY)",
				"CREATE FUNCTION pg_catalog.pg_total_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT pg_sleep(60); SELECT 1::bigint'")
			if err := setUp.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			proxy, port := fixture.Toxiproxy(t, address.Host)
			through := *address
			through.Host, through.Path = "127.0.0.1:"+port, "/"+database
			conn := connect(t, through.String())
			type outcome struct {
				reading *reading.Reading
				err     error
			}
			done := make(chan outcome, 1)
			go func() {
				r, err := collect.Collect(t.Context(), conn, tt.opts)
				done <- outcome{r, err}
			}()
			testkit.Eventually(t, time.Minute, "the look is midway", func() bool {
				var midway bool
				err := watch.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep')", database).Scan(&midway)
				return err == nil && midway
			})
			tt.gone(t, proxy)
			got := <-done
			if pgmedic.KindOf(got.err) != pgmedic.KindUnreachable || pgmedic.HintOf(got.err) == "" {
				t.Errorf("kind %s of %v", pgmedic.KindOf(got.err), got.err)
			}
			r := got.reading
			if r == nil || r.Connections == nil || r.Limits == nil || r.Tables == nil || r.Indexes != nil || r.Cache != nil {
				t.Fatalf("what was read before stands, and nothing else: %+v", r)
			}
			if reason := skipReason(r, "exact table sizes"); reason != "the server went away" {
				t.Errorf("what it stood at: %q", reason)
			}
			for _, query := range []string{"indexes", "cache", "transactions", "bloat of tables"} {
				if reason := skipReason(r, query); !strings.Contains(reason, "gone by then") {
					t.Errorf("%s: %q", query, reason)
				}
			}
			judge.Analyse(r, nil, reading.DefaultThresholds())
		})
	}
}
