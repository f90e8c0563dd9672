package config_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/config"
)

func TestNotifications(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, ".env", "TEAMS_URL=https://teams.example/x\nNOTIFICATION_EMAIL=dba@clinic.example, ops@clinic.example\n")
	write(t, dir, "etc/pgmedic.yaml", `
notifications:
  channels:
    - {name: ops, type: teams, url: env:TEAMS_URL, ca_file: ca.pem, resolved: false}
    - {name: own, type: webhook, url: "file:hook", secret: [first, second], body: '{"x": {{json .Text}}}'}
  routes:
    - {match: {severity: critical, env: [production, staging]}, to: [ops, own]}
    - {match: {env: development}, to: []}
    - {to: [own], escalate: [{after: 15m, to: ops}, {after: 1d, to: [ops, own]}]}
pings:
  backup: https://hc.example/canary
  drill: env:HC_DRILL
  prune: file:hc
`)
	cfg := load(t, config.Options{Dir: dir, File: "etc/pgmedic.yaml", EnvFile: ".env"})
	n := cfg.Notifications
	if !n.Enabled || !slices.Equal(n.Email, []string{"dba@clinic.example", "ops@clinic.example"}) || len(n.Channels) != 2 || len(n.Routes) != 3 {
		t.Fatalf("%+v", n)
	}
	ops, own := n.Channels[0], n.Channels[1]
	if ops.URL != "env:TEAMS_URL" || ops.CAFile != filepath.Join(dir, "etc", "ca.pem") {
		t.Errorf("%+v", ops)
	}
	if own.URL != "file:"+filepath.Join(dir, "etc", "hook") || !slices.Equal(own.Secrets, []string{"first", "second"}) || own.Body != `{"x": {{json .Text}}}` {
		t.Errorf("%+v", own)
	}
	want := map[string][]string{"severity": {"critical"}, "env": {"production", "staging"}}
	if r := n.Routes[0]; !reflect.DeepEqual(r.Match, want) || !slices.Equal(r.To, []string{"ops", "own"}) {
		t.Errorf("%+v", r)
	}
	steps := []config.RouteStep{{After: 15 * time.Minute, To: []string{"ops"}}, {After: 24 * time.Hour, To: []string{"ops", "own"}}}
	if r := n.Routes[2]; !reflect.DeepEqual(r.Escalate, steps) || !ops.SkipResolved || own.SkipResolved {
		t.Errorf("%+v", r)
	}
	if r := n.Routes[1]; r.To != nil || len(r.Match) != 1 {
		t.Errorf("%+v", r)
	}
	for key, want := range map[string]string{"pings.backup": "https://hc.example/canary", "pings.drill": "env:HC_DRILL", "pings.prune": "file:" + filepath.Join(dir, "etc", "hc"), "pings.copy": "", "database.password": ""} {
		if got := cfg.Written(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	var lines strings.Builder
	for _, v := range cfg.Effective() {
		fmt.Fprintf(&lines, "%s=%s\n", v.Key, v.Value)
	}
	shown := lines.String()
	for _, want := range []string{"notifications.channels[0]=ops: teams, without ends", "notifications.routes[0]=env=production|staging, severity=critical to ops, own",
		"notifications.routes[1]=env=development to no channel", "notifications.routes[2]=everything else to own; after 15m0s also to ops; after 24h0m0s also to ops, own"} {
		if !strings.Contains(shown, want+"\n") {
			t.Errorf("%s is not shown:\n%s", want, shown)
		}
	}
	for _, secret := range []string{"canary", "teams.example", "first"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
}

// TestNotificationsElsewhere: a secret for notifications that is not on this host keeps no
// command from running.
func TestNotificationsElsewhere(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", "notifications: {webhook: 'env:NO_URL', smtp: 'file:/no/such/file', channels: [{name: a, type: slack, url: 'env:NO_URL'}]}\npings: {backup: 'env:NO_URL'}\n")
	cfg := load(t, config.Options{Dir: dir})
	if got := strings.Join(cfg.Warnings, "\n"); !strings.Contains(got, "pgmedic.yaml:1: channel a names an environment variable that is not set") {
		t.Errorf("warnings: %s", got)
	}
	if !cfg.HasChannels() || len(cfg.Unread()) != 3 {
		t.Errorf("%+v", cfg.Unread())
	}
	write(t, dir, "pgmedic.yaml", "server: x\n")
	_, err := config.Load(config.Options{Dir: dir, Environ: []string{"PGMEDIC_PING_BACKUP=exec:/bin/hunter2"}})
	wantUsage(t, err, "PGMEDIC_PING_BACKUP names a program to run, which only pgmedic.yaml can")
}
