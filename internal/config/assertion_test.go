package config_test

import (
	"reflect"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
)

func TestAssertions(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "pgmedic.yaml", `drill:
  amcheck: false
  preload_libraries: [timescaledb, pg_cron]
  scratch_url: postgres://u:hunter2@h/db
  assertions:
    - name: patients are there
      sql: SELECT count(*) > 0 FROM patients
    - name: 'not: too few'
      sql: |
        SELECT count(*)
        FROM patients
      min: 1_000
      max: 2e6
    - {name: zip, sql: SELECT zip FROM clinics, expect: 007}
    - name: states
      sql: SELECT DISTINCT state FROM claims ORDER BY 1
      expect: [open, "paid", ""]
`)
	cfg := load(t, config.Options{Dir: dir, File: file})
	low, high := 1000.0, 2e6
	want := []config.Assertion{
		{Name: "patients are there", SQL: "SELECT count(*) > 0 FROM patients"},
		{Name: "not: too few", SQL: "SELECT count(*)\nFROM patients\n", Min: &low, Max: &high},
		{Name: "zip", SQL: "SELECT zip FROM clinics", Expect: []string{"007"}},
		{Name: "states", SQL: "SELECT DISTINCT state FROM claims ORDER BY 1", Expect: []string{"open", "paid", ""}},
	}
	if !reflect.DeepEqual(cfg.Drill.Assertions, want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Drill.Assertions, want)
	}
	if cfg.Drill.Amcheck || !reflect.DeepEqual(cfg.Drill.PreloadLibraries, []string{"timescaledb", "pg_cron"}) {
		t.Errorf("%+v", cfg.Drill)
	}
	if v := value(t, cfg, "drill.assertions"); v.Value != "patients are there, not: too few, zip, states" || !v.Origin.Given() {
		t.Errorf("shown as %+v", v)
	}
	if v := value(t, cfg, "drill.scratch_url"); v.Value != "postgres://u:••••@h/db" {
		t.Errorf("the URL is shown as %s", v.Value)
	}
}

func TestAssertionErrors(t *testing.T) {
	for name, tt := range map[string]struct{ items, want string }{
		"no list":          {" hunter2", "pgmedic.yaml:2: drill.assertions must be a list"},
		"no mapping":       {"\n    - hunter2", "pgmedic.yaml:3: an item of drill.assertions must be a mapping"},
		"misspelt":         {"\n    - name: a\n      sqll: hunter2", "pgmedic.yaml:4: unknown key in drill.assertions / did you mean sql?"},
		"unlike any":       {"\n    - name: a\n      hunter2: x", "pgmedic.yaml:4: unknown key in drill.assertions / the keys here are name, sql, expect, min, max"},
		"no name":          {"\n    - sql: hunter2", "pgmedic.yaml:3: an item of drill.assertions has no name of one line"},
		"no sql":           {"\n    - name: hunter2", "pgmedic.yaml:3: an item of drill.assertions has no sql"},
		"one name twice":   {"\n    - {name: a, sql: x}\n    - {name: a, sql: y}", "pgmedic.yaml:4: drill.assertions has the same name twice"},
		"no number":        {"\n    - {name: a, sql: x, min: hunter2}", "pgmedic.yaml:3: min of an item of drill.assertions must be a number"},
		"infinite":         {"\n    - {name: a, sql: x, max: .inf}", "pgmedic.yaml:3: max of an item of drill.assertions must be a number"},
		"min above max":    {"\n    - {name: a, sql: x, min: 2, max: 1}", "pgmedic.yaml:3: an item of drill.assertions has a min above its max"},
		"expect and min":   {"\n    - {name: a, sql: x, expect: 1, min: 1}", "pgmedic.yaml:3: an item of drill.assertions has expect, and min or max"},
		"empty list":       {"\n    - {name: a, sql: x, expect: []}", "pgmedic.yaml:3: expect of an item of drill.assertions is an empty list"},
		"null expected":    {"\n    - {name: a, sql: x, expect: null}", "pgmedic.yaml:3: expect of an item of drill.assertions is null"},
		"mapping expected": {"\n    - {name: a, sql: x, expect: {hunter2: 1}}", "pgmedic.yaml:3: expect of an item of drill.assertions must be a single value"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "pgmedic.yaml", "drill:\n  assertions:"+tt.items+"\n")
			_, err := config.Load(config.Options{Dir: dir})
			wantUsage(t, err, tt.want)
		})
	}
	_, err := config.Load(config.Options{Dir: t.TempDir(), Flags: []config.Flag{{Key: "drill.assertions", Name: "--x", Value: "y"}}})
	wantUsage(t, err, "which is not a setting")
}
