package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// TestContribKubernetes: the CronJobs in contrib are those of the configuration beside
// them.
func TestContribKubernetes(t *testing.T) {
	folder, err := filepath.Abs("../../contrib/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{Dir: t.TempDir(), File: filepath.Join(folder, "pgmedic.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(folder, "cronjobs.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := &env{stdout: &out, rawOut: &out, stderr: &out, now: time.Now}
	cmd := &scheduleKubernetesCommand{
		planner: planner{job: job{env: e, cfg: cfg}, plan: cfg.Schedules},
		options: schedule.KubernetesOptions{Image: "registry.example/pgmedic:1.2.3", Namespace: "clinic", Secret: "pgmedic"},
	}
	if err := cmd.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("cronjobs.yaml is not what its README's last command prints:\n%s", out.String())
	}
}
