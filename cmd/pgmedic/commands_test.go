package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// commandProblems returns what keeps the commands in a file from being types that are
// run without arguments, and whose declarations say what they use. ran are the types
// that have a run, commands those that need one.
func commandProblems(file *ast.File) (commands, ran, problems []string) {
	parts := []string{"servers", "stores", "keyring", "backups", "copier", "retainer", "swapPrinter", "newBackups", "newCopier", "newRetainer"}
	// These read the configuration when they are under way.
	late := []string{"initCommand"}
	isCommand := func(name string) bool { return strings.HasSuffix(name, "Command") }
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok && isCommand(t.Name.Name) {
					commands = append(commands, t.Name.Name)
				}
			}
		case *ast.FuncDecl:
			if d.Recv == nil {
				continue
			}
			of := d.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			name, ok := of.(*ast.Ident)
			if !ok || !isCommand(name.Name) {
				continue
			}
			if d.Name.Name == "run" && len(d.Type.Params.List) == 1 {
				ran = append(ran, name.Name)
			}
			ast.Inspect(d, func(n ast.Node) bool {
				var used ast.Expr
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "cobra" {
						problems = append(problems, name.Name+"."+d.Name.Name+" knows cobra")
					}
				case *ast.CompositeLit:
					used = n.Type
				case *ast.CallExpr:
					used = n.Fun
				}
				if id, ok := used.(*ast.Ident); ok && slices.Contains(parts, id.Name) && !slices.Contains(late, name.Name) {
					problems = append(problems, name.Name+"."+d.Name.Name+" makes "+id.Name+", which its declaration does not name")
				}
				return true
			})
		}
	}
	return commands, ran, problems
}

// TestCommandsAreTypes holds all commands of the program against that.
func TestCommandsAreTypes(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var commands, ran []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		c, r, problems := commandProblems(file)
		commands, ran = append(commands, c...), append(ran, r...)
		for _, p := range problems {
			t.Errorf("%s: %s", e.Name(), p)
		}
	}
	slices.Sort(commands)
	slices.Sort(ran)
	if len(commands) < 20 || !slices.Equal(commands, ran) {
		t.Errorf("there are the commands\n%v, and with a run(ctx)\n%v", commands, ran)
	}
}

func TestCommandProblems(t *testing.T) {
	for text, want := range map[string]string{
		`func (cmd *xCommand) run(ctx context.Context) error { return cmd.stores.openCatalog(ctx) }`:      "",
		`func (cmd *xCommand) run(ctx context.Context) error { return stores{cmd.job}.openCatalog(ctx) }`: "xCommand.run makes stores",
		`func (cmd *xCommand) tell() { newBackups(cmd.job) }`:                                             "xCommand.tell makes newBackups",
		`func (cmd *xCommand) run(c *cobra.Command) error { return nil }`:                                 "xCommand.run knows cobra",
		`func xCLI(e *env) { stores{j} }`:                                                                 "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package main\n"+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		_, _, problems := commandProblems(file)
		if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0], want)) {
			t.Errorf("%s: got %q, want %q", text, problems, want)
		}
	}
}

// TestInitTakesFlags: what the flags of init say is in the file that it writes.
func TestInitTakesFlags(t *testing.T) {
	j, _ := printer(t, false)
	cmd := &initCommand{env: j.env, set: []config.Flag{
		{Key: "database.host", Name: "--host", Value: "db.internal"}, {Key: "database.user", Name: "--user", Value: "nurse"}, {Key: "server", Name: "--server", Value: "main"},
	}}
	taken := cmd.takenOver(t.TempDir() + "/pgmedic.yaml")
	if taken["database.host"] != "db.internal" || taken["database.user"] != "nurse" || taken["server"] != "main" {
		t.Errorf("taken over: %v", taken)
	}
}

// TestListWithoutArguments runs a command that no command line was parsed for.
func TestListWithoutArguments(t *testing.T) {
	j, out := printer(t, false)
	list := &listCommand{job: j, stores: stores{j}, keys: keyring{j}, retainer: newRetainer(j), flags: listFlags{database: "clinic"}}
	j.cfg.Backup.Dir = t.TempDir()
	if err := list.run(t.Context()); err != nil || !strings.Contains(out.String(), "no backups of database clinic") {
		t.Errorf("got %v: %s", err, out)
	}
	j.cfg.Backup.Dir += "-mistyped"
	if err := list.run(t.Context()); err == nil || pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := os.Stat(j.cfg.Backup.Dir); !os.IsNotExist(err) {
		t.Errorf("a listing made the folder: %v", err)
	}
}

// TestSealing: there is no sealing that this host would not read back, and one to
// nobody only where nobody is named.
func TestSealing(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to := id.Recipient().String()
	for name, test := range map[string]struct {
		set   func(*config.Backup)
		want  seal.Encryption
		wraps int
		fails bool
	}{
		"nobody":                   {func(*config.Backup) {}, seal.EncryptionNone, 0, false},
		"a recipient":              {func(b *config.Backup) { b.Recipients = []string{to} }, seal.EncryptionAge, 1, false},
		"a recipient, and none":    {func(b *config.Backup) { b.Recipients, b.Encryption = []string{to}, "none" }, seal.EncryptionNone, 0, true},
		"that, and it is allowed":  {func(b *config.Backup) { b.Recipients, b.Encryption, b.AllowUnencrypted = []string{to}, "none", true }, seal.EncryptionNone, 0, false},
		"a secret key for public":  {func(b *config.Backup) { b.Recipients = []string{id.String()} }, seal.EncryptionNone, 0, true},
		"aes without a passphrase": {func(b *config.Backup) { b.Encryption, b.Method = "aes-256-cbc", "plain" }, seal.EncryptionNone, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := printer(t, false)
			test.set(&j.cfg.Backup)
			how, err := keyring{j}.sealing(t.Context())
			if (err != nil) != test.fails || err != nil && pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			if how.options.Encryption != test.want || len(how.wraps) != test.wraps {
				t.Errorf("%s with %d wraps", how.options.Encryption, len(how.wraps))
			}
			if o := j.backupOptions(postgres.Target{}, nil, how); o.Seal.Encryption != test.want || len(o.Wraps) != test.wraps {
				t.Errorf("a backup is %s with %d wraps", o.Seal.Encryption, len(o.Wraps))
			}
		})
	}
}

// TestRestoreFlags: what does not go together is refused before anything is opened.
func TestRestoreFlags(t *testing.T) {
	for name, test := range map[string]struct {
		flags restoreFlags
		args  []string
		words string
	}{
		"nowhere":              {restoreFlags{}, []string{"latest"}, "where to restore"},
		"two places":           {restoreFlags{into: "a", swap: true}, []string{"latest"}, "exclude each other"},
		"swap's without it":    {restoreFlags{into: "a", acceptDifferences: true}, []string{"latest"}, "are for --swap"},
		"definitions, swapped": {restoreFlags{swap: true, schemaOnly: true}, []string{"latest"}, "are for --into"},
		"roles of tables":      {restoreFlags{tables: []string{"a"}, globals: "all"}, []string{"latest"}, "--globals makes roles"},
		"globals otherwise":    {restoreFlags{into: "a", globals: "some"}, []string{"latest"}, "missing and all"},
		"compared otherwise":   {restoreFlags{into: "a", compare: "some"}, []string{"latest"}, "values or counts"},
		"no backup":            {restoreFlags{into: "a"}, nil, "no backup is named"},
		"resumed with one":     {restoreFlags{resume: true}, []string{"latest"}, "--resume goes with"},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := printer(t, false)
			j.stdinTTY = false
			err := (&restoreCommand{job: j, args: test.args, flags: test.flags}).run(t.Context())
			if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), test.words) {
				t.Errorf("got %v", err)
			}
		})
	}
}
