package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// TestEachSettingIsUsed finds a setting that is read, checked, documented and then does
// nothing: one whose field no code of the program or of the configuration names, in a
// file that also names its section.
func TestEachSettingIsUsed(t *testing.T) {
	used := map[string]map[string]bool{} // file → names that are selected in it
	for _, pattern := range []string{"*.go", "../../internal/config/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					names[s.Sel.Name] = true
				}
				return true
			})
			used[path] = names
		}
	}
	isUsed := func(section, field string) bool {
		for _, names := range used {
			if names[field] && (section == "" || names[section]) {
				return true
			}
		}
		return false
	}
	checked := 0
	var walk func(typ reflect.Type, section string)
	walk = func(typ reflect.Type, section string) {
		for _, field := range reflect.VisibleFields(typ) {
			if !field.IsExported() || field.Tag.Get("yaml") == "-" || field.Anonymous {
				continue
			}
			if field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == typ.PkgPath() && field.Tag.Get("env") == "" {
				walk(field.Type, field.Name)
				continue
			}
			checked++
			if !isUsed(section, field.Name) {
				t.Errorf("nothing uses %s.%s: pass it on in wire.go, or in the command", section, field.Name)
			}
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
	if checked < 100 {
		t.Errorf("only %d settings were looked for", checked)
	}
	if isUsed("Backup", "Nonesuch") {
		t.Error("what is not there is used")
	}
}

// TestThresholdDefaults: the defaults of the settings are those that engines have, and
// each threshold that has a setting follows it.
func TestThresholdDefaults(t *testing.T) {
	cfg, err := config.Load(config.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Database.MaintenanceDatabase; got != postgres.DefaultMaintenance {
		t.Errorf("the maintenance database is %q, of engines %q", got, postgres.DefaultMaintenance)
	}
	command := &reportCommand{job: job{env: &env{}, cfg: cfg}}
	want := reading.DefaultThresholds()
	if got := command.thresholds(); got != want {
		t.Errorf("without a configuration the thresholds are\n%+v, want reading.DefaultThresholds\n%+v", got, want)
	}
	if cfg.Backup.LockTimeout != snapshot.DefaultLockTimeout {
		t.Errorf("backup.lock_timeout is %s without a configuration, and snapshot.DefaultLockTimeout %s", cfg.Backup.LockTimeout, snapshot.DefaultLockTimeout)
	}
	settings := reflect.ValueOf(&cfg.Report.Thresholds).Elem()
	for i := range settings.NumField() {
		before := command.thresholds()
		switch field := settings.Field(i); field.Kind() {
		case reflect.Float64:
			field.SetFloat(field.Float() + 1)
		case reflect.Int, reflect.Int64: // time.Duration, too
			field.SetInt(field.Int() + 1)
		default:
			t.Fatalf("%s is of a kind that this test does not know", settings.Type().Field(i).Name)
		}
		if command.thresholds() == before {
			t.Errorf("no threshold follows the setting %s", settings.Type().Field(i).Name)
		}
	}
}

// TestThresholdsAreNamed: docs/findings.md says that thresholds without a name can't be changed.
func TestThresholdsAreNamed(t *testing.T) {
	page, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	settings := reflect.TypeFor[config.Thresholds]()
	for i := range settings.NumField() {
		name := settings.Field(i).Tag.Get("yaml")
		if !regexp.MustCompile("\\b" + name + "\\b").Match(page) {
			t.Errorf("docs/findings.md does not name %s", name)
		}
	}
}
