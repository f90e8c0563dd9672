package pgmedic_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	modulePath = "github.com/pgmedic/pgmedic"
	// What is more is split by what it is about: files, packages without their tests,
	// and types by their methods.
	maxFileLines, maxPackageLines, maxMethods = 500, 3000, 39
	// mainFile is the only one that may end the process, and the example's.
	mainFile    = "cmd/pgmedic/main.go"
	exampleFile = "examples/clinic/main.go"
)

// allowedImports is the import map: for each package, by its folder, the
// packages of ours that it may import; "." is the root. Every package is here.
// A new one needs a line, and the commit says which boundary it draws.
var allowedImports = map[string][]string{
	".": {},
	// The pages that the program prints itself.
	"docs": {},

	"internal/words":    {"."},
	"internal/sqltext":  {"."},
	"internal/progress": {"."},
	"internal/config":   {".", "internal/hidden", "internal/schedule"},
	"internal/hidden":   {"internal/words"},
	"internal/seal":     {"."},
	"internal/digest":   {"."},
	// When jobs run: pure, without a clock.
	"internal/schedule": {"."},
	// Who did what: of acts it knows only their names.
	"internal/audit": {".", "internal/durable", "internal/owner", "internal/words"},
	// Whose what root makes is.
	"internal/owner":    {},
	"internal/postgres": {".", "internal/sqltext"},
	// What is read at one moment, and what is done to databases as a whole, know
	// nothing of each other.
	"internal/postgres/snapshot":  {".", "internal/postgres", "internal/sqltext"},
	"internal/postgres/databases": {".", "internal/postgres", "internal/sqltext", "internal/failpoint", "internal/words"},
	"internal/pgtool":             {".", "internal/postgres", "internal/postgres/snapshot", "internal/sqltext", "internal/pgtool/dumpsql"},
	"internal/scratch":            {".", "internal/failpoint", "internal/postgres", "internal/sqltext", "internal/words"},
	"internal/replication":        {".", "internal/postgres", "internal/wal"},
	// WAL in a store. What a server says is not asked.
	"internal/archive": {".", "internal/catalog", "internal/failpoint", "internal/seal", "internal/signature", "internal/store", "internal/store/pipe", "internal/wal"},
	// Which WAL may go, and its deletion.
	"internal/archive/expire": {".", "internal/archive", "internal/catalog", "internal/failpoint", "internal/lease", "internal/store", "internal/wal"},
	// What of it is being read, on any host.
	"internal/lease": {"internal/archive", "internal/store", "internal/wal"},
	// The copy of an archive in another store.
	"internal/archive/mirror": {".", "internal/archive", "internal/store", "internal/wal"},
	// What a server hands over, into an archive.
	"internal/walpush": {".", "internal/archive", "internal/seal", "internal/signature", "internal/store", "internal/wal"},
	// What a catalogue's base backups and an archive's WAL recover.
	"internal/pitr": {".", "internal/archive", "internal/catalog", "internal/chain", "internal/seal", "internal/store", "internal/wal"},
	// From a server into an archive.
	"internal/walstream": {".", "internal/archive", "internal/failpoint", "internal/postgres", "internal/replication", "internal/seal", "internal/signature", "internal/store", "internal/wal", "internal/walspool", "internal/words"},
	// WAL that is flushed and not stored yet: of servers and stores it knows nothing.
	"internal/walspool": {".", "internal/durable", "internal/wal", "internal/words"},
	// A base backup of a cluster: its list of files, and how it is taken.
	"internal/sqlfiles": {".", "internal/pgdata", "internal/postgres", "internal/sqltext", "internal/wal"},
	"internal/physical": {".", "internal/archive", "internal/byhand", "internal/catalog", "internal/chain", "internal/failpoint", "internal/pgdata", "internal/postgres", "internal/postgres/databases", "internal/progress", "internal/recovery", "internal/replication", "internal/seal", "internal/signature", "internal/sqlfiles", "internal/sqltext", "internal/store", "internal/store/pipe", "internal/wal", "internal/walstream", "internal/words"},
	// A data directory as bytes: pure.
	"internal/pgdata": {"internal/wal"},
	// A chain of base backups as one.
	"internal/physical/merge": {".", "internal/chain", "internal/failpoint", "internal/pgdata", "internal/physical"},
	// Which backups an incremental one needs: pure.
	"internal/chain": {".", "internal/wal"},
	// WAL as bytes: pure.
	"internal/wal":    {"."},
	"internal/store":  {".", "internal/durable", "internal/owner", "internal/words"},
	"internal/awsenv": {},
	// Credentials that are read again when a server refuses them.
	"internal/rotation": {},
	// The clients of secret managers stay out of the rest.
	"internal/secret":     {".", "internal/awsenv", "internal/googleauth", "internal/words"},
	"internal/googleauth": {},
	"internal/signature":  {".", "internal/store"},
	// SSH stays out of the rest.
	"internal/store/sftpstore": {".", "internal/rotation", "internal/store", "internal/words"},
	// Each cloud's requests, and what all clouds have in common.
	"internal/store/remote": {".", "internal/store"},
	"internal/store/pipe":   {"internal/store"},
	"internal/byhand":       {"internal/seal", "internal/words"},
	"internal/store/azure":  {".", "internal/rotation", "internal/store", "internal/store/remote"},
	// Amazon's SDK has what remote does for the others.
	"internal/store/s3":  {".", "internal/awsenv", "internal/store"},
	"internal/store/gcs": {".", "internal/googleauth", "internal/rotation", "internal/store", "internal/store/remote"},
	"internal/catalog":   {".", "internal/store", "internal/signature", "internal/failpoint", "internal/shrunk", "internal/words"},
	// Which backups have far less than their series: a pure function.
	"internal/shrunk": {".", "internal/words"},
	// What changed between two moments of a database, and how a live one is read for that.
	"internal/diff": {".", "internal/postgres", "internal/postgres/databases", "internal/postgres/snapshot", "internal/sqltext"},
	// What to report of states that come and go: a pure function.
	"internal/alert": {".", "internal/words"},
	// How jobs ended, to whom: it knows of no job.
	"internal/notify": {".", "internal/egress", "internal/hooksign", "internal/sending", "internal/spool", "internal/words"},
	// Why a message was not delivered.
	"internal/sending": {".", "internal/egress", "internal/words"},
	// A signature is a function of its arguments.
	"internal/hooksign": {},
	// Messages that wait, whatever they say.
	"internal/spool": {"internal/durable", "internal/words"},
	// Names that last through a power cut.
	"internal/durable": {},
	// Which addresses may be reached: pure, but for the resolver.
	"internal/egress": {},
	// What to do when something went wrong: a pure function of facts.
	"internal/emergency": {".", "internal/sqltext", "internal/words"},
	// Which backups may go: a pure function.
	"internal/retention": {".", "internal/catalog", "internal/words"},
	// Which objects have which lock.
	"internal/immutable": {".", "internal/catalog", "internal/retention", "internal/store", "internal/words"},
	"internal/backup":    slices.Concat(engineImports, []string{"internal/byhand", "internal/digest", "internal/signature", "internal/store/pipe", "internal/words"}),
	// What reads every index and table of a copy, whoever made it.
	"internal/amcheck": {".", "internal/postgres", "internal/sqltext", "internal/words"},
	"internal/restore": slices.Concat(engineImports, []string{"internal/amcheck", "internal/digest", "internal/words"}),
	// A copy in the place of the live database; of single tables it knows nothing.
	"internal/restore/swap": {".", "internal/restore", "internal/failpoint", "internal/pgtool", "internal/pgtool/dumpsql", "internal/postgres", "internal/postgres/snapshot", "internal/postgres/databases", "internal/progress", "internal/sqltext", "internal/words"},
	// What a recovery of a cluster gets of WAL, by its plan.
	"internal/recovery": {".", "internal/archive", "internal/wal"},
	// PostgreSQL's files of settings as text.
	"internal/pgconf": {},
	// The files of a cluster into a folder; of databases it knows nothing.
	"internal/restore/cluster": {".", "internal/durable", "internal/failpoint", "internal/owner", "internal/pgconf", "internal/physical", "internal/progress", "internal/recovery", "internal/sqltext", "internal/wal", "internal/words"},
	// Single tables beside the living ones: of a restore it knows how rows are read.
	"internal/restore/rescue": {".", "internal/digest", "internal/failpoint", "internal/restore", "internal/pgtool", "internal/pgtool/dumpsql", "internal/postgres", "internal/postgres/snapshot", "internal/postgres/databases", "internal/progress", "internal/sqltext", "internal/words"},
	// What was rescued goes where it was: of the rescue it knows what that brings, and how rows compare.
	"internal/restore/inplace": {".", "internal/restore", "internal/restore/rescue", "internal/pgtool", "internal/pgtool/dumpsql", "internal/postgres", "internal/postgres/databases", "internal/progress", "internal/sqltext", "internal/words"},
	"internal/drill":           slices.Concat(engineImports, []string{"internal/amcheck", "internal/archive", "internal/pgdata", "internal/physical", "internal/recovery", "internal/replay", "internal/restore", "internal/restore/cluster", "internal/scratch", "internal/wal", "internal/words"}),
	// A cluster recovered to a moment, in a private server; of what is done with it then it
	// knows nothing.
	"internal/replay": {".", "internal/archive", "internal/owner", "internal/physical", "internal/postgres", "internal/progress", "internal/recovery", "internal/restore/cluster", "internal/scratch", "internal/sqltext"},
	// What of such a cluster is wanted, as a backup: of restores it knows nothing.
	"internal/extract": {".", "internal/backup", "internal/catalog", "internal/failpoint", "internal/physical", "internal/pgtool", "internal/postgres", "internal/postgres/snapshot", "internal/progress", "internal/replay", "internal/restore/cluster", "internal/scratch", "internal/seal", "internal/sqltext", "internal/store", "internal/words"},
	// A backup as files of other programs, which nothing else needs.
	"internal/fetch": {".", "internal/catalog", "internal/durable", "internal/signature", "internal/restore", "internal/postgres/snapshot", "internal/progress", "internal/sqltext", "internal/words"},
	// What a dump is, and what of it is refused; what becomes of it is for restore.
	"internal/dumpfile": {".", "internal/pgtool", "internal/pgtool/dumpsql", "internal/seal", "internal/sqltext", "internal/words"},
	// What a stranger's dump is read by runs no programs.
	"internal/pgtool/dumpsql":  {".", "internal/postgres", "internal/postgres/snapshot", "internal/sqltext", "internal/words"},
	"internal/monitor/reading": {".", "internal/sqltext"},
	// A judgement is a pure function of readings; its fixes are SQL.
	"internal/monitor/judge": {".", "internal/monitor/reading", "internal/sqltext", "internal/words"},
	// Texts of statements are read only of those that a judgement could be about, which
	// the thresholds of reading say.
	"internal/monitor/collect": {".", "internal/monitor/reading", "internal/postgres", "internal/postgres/databases", "internal/sqltext", "internal/words"},
	// SQLite stays out of the rest.
	"internal/monitor/history": {".", "internal/monitor/reading", "internal/monitor/judge", "internal/words"},
	"internal/inspect":         {".", "internal/postgres", "internal/postgres/databases", "internal/catalog", "internal/monitor/collect", "internal/monitor/reading", "internal/monitor/history", "internal/poolstate", "internal/sqltext", "internal/words"},
	// What a service says of its pool; the server is not asked.
	"internal/poolstate": {".", "internal/egress", "internal/monitor/reading", "internal/sqltext", "internal/words"},
	// What a report found, mended; it reads nothing for a report itself.
	"internal/maintain": {".", "internal/failpoint", "internal/monitor/reading", "internal/postgres", "internal/postgres/databases", "internal/sqltext", "internal/words"},
	"internal/render":   {".", "internal/monitor/reading", "internal/monitor/judge", "internal/words"},
	// Each form of a report knows nothing of the others.
	"internal/render/text":       {".", "internal/render", "internal/monitor/reading", "internal/monitor/judge", "internal/words", "internal/terminal"},
	"internal/render/html":       {".", "internal/render", "internal/monitor/reading", "internal/monitor/judge", "internal/words"},
	"internal/render/markdown":   {"internal/terminal", "internal/words"},
	"internal/render/prometheus": {".", "internal/render", "internal/monitor/reading"},
	"internal/terminal":          {".", "internal/words"},
	// A log that rotates knows nothing of what is logged.
	"internal/logfile": {},
	// What may be deleted of files: it knows what else keeps files, and no backups.
	"internal/cleanup": {"internal/logfile", "internal/scratch", "internal/words"},

	// The pool is a module of its own.
	"pool":                  {"pool/internal/sqltext"},
	"pool/internal/sqltext": {},
	"pool/poolprom":         {"pool"},
	// For the tests of services: a pool on a server of its own.
	"pool/pooltest": {".", "pool", "internal/scratch", "internal/sqltext"},
	// What a service does with it; a module of its own, too.
	"examples/clinic": {"pool"},
	// Libraries on the pool, a module of their own: nothing else is built with them.
	"examples/pool/bun":        {"pool"},
	"examples/pool/gorm":       {"pool"},
	"examples/pool/migrate":    {"pool"},
	"examples/pool/otelpgx":    {"pool"},
	"examples/pool/river":      {"pool"},
	"examples/pool/scany":      {"pool"},
	"examples/pool/sqlc":       {"pool", "examples/pool/sqlc/store"},
	"examples/pool/sqlc/store": {},

	"cmd/pgmedic": {"*"},

	// Where tests end the program; in other builds it does nothing.
	"internal/failpoint": {},

	// Support for tests: nothing but tests imports these.
	"internal/postgres/postgrestest": {".", "internal/postgres", "internal/sqltext"},
	"internal/scratch/scratchtest":   {".", "internal/scratch", "internal/testkit"},
	"internal/store/storetest":       {".", "internal/store", "internal/testkit"},
	"internal/store/s3test":          {"internal/store/s3"},
	"internal/store/sftptest":        {},
	"internal/store/azuretest":       {"internal/store/azure", "internal/testkit"},
	"internal/store/gcstest":         {"internal/store/gcs", "internal/testkit"},
	"internal/testkit":               {},
	"internal/schematest":            {"internal/testkit"},
	"internal/render/rendertest":     {".", "internal/render", "internal/monitor/reading", "internal/monitor/judge"},
}

var engineImports = []string{
	".", "internal/sqltext", "internal/progress", "internal/postgres", "internal/postgres/snapshot", "internal/postgres/databases", "internal/pgtool", "internal/pgtool/dumpsql", "internal/seal", "internal/catalog", "internal/failpoint",
}

// largePackages may have more lines, for a reason. One that no longer has them may
// not stay here.
var largePackages = map[string]string{
	"internal/catalog":         "what a manifest, a receipt, a key, a hold, a mark and a signature are, and how each is read",
	"internal/config":          "one struct of settings, and for each section of it what reads and checks it",
	"cmd/pgmedic":              "a file for each command: its flags, its help and what it prints",
	"internal/monitor/collect": "one table of queries, with their SQL and what reads the answers",
	"internal/monitor/judge":   "one file of findings for each section",
	"internal/restore":         "loading by two methods, with what is tried again, and comparing value by value: one promise",
	"internal/scratch":         "the cage has a file for each system call and platform",
	"pool":                     "one package is what a service imports",
}

// largeTypes may have more methods, likewise.
var largeTypes = map[string]string{
	"internal/monitor/judge.analysis": "a finding is a method",
	"internal/scratch.Server":         "a server is one thing: its folder, process, cage and databases",
	"pool.DB":                         "what a service calls: the methods of pgx and more",
}

// forTests reports whether a package is support for tests.
func forTests(folder string) bool {
	return strings.HasSuffix(folder, "test") || folder == "internal/testkit"
}

// emptyNames are package names that say nothing.
var emptyNames = []string{"util", "utils", "common", "types", "service", "services", "core", "manager", "helpers"}

// TestArchitecture parses the files itself, because the answers of go list are
// taken from the cache of test results, which knows nothing of a new file.
func TestArchitecture(t *testing.T) {
	problems, err := checkTree(os.DirFS("."), rules{allowedImports, largePackages, largeTypes})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range checkRows(os.DirFS("."), allowedImports, string(page)) {
		t.Error(problem)
	}
}

// checkRows returns the rows of the import map that have no package, and the packages
// and files of the root that have no row in the table of a page.
func checkRows(tree fs.FS, allowed map[string][]string, page string) (problems []string) {
	for _, folder := range slices.Sorted(maps.Keys(allowed)) {
		files, err := fs.Glob(tree, path.Join(folder, "*.go"))
		if err != nil || !slices.ContainsFunc(files, func(name string) bool { return !strings.HasSuffix(name, "_test.go") }) {
			problems = append(problems, "the import map has "+folder+", which is not a package")
		}
		if strings.HasPrefix(folder, "internal/") && !forTests(folder) && !strings.Contains(page, "| ["+folder+"](../"+folder) {
			problems = append(problems, "package "+folder+" is not in the table of docs/architecture.md")
		}
	}
	return append(problems, checkRootRows(tree, page)...)
}

// rules are what a tree of packages is held to.
type rules struct {
	imports                   map[string][]string
	largePackages, largeTypes map[string]string
}

// checkTree returns what is wrong with a tree of packages.
func checkTree(tree fs.FS, rules rules) (problems []string, err error) {
	sizes := sizes{lines: map[string]int{}, methods: map[string]int{}}
	err = eachSource(tree, func(name string, text []byte) error {
		found, err := checkFile(name, text, rules.imports, sizes)
		for _, problem := range found {
			problems = append(problems, name+": "+problem)
		}
		return err
	})
	return append(problems, sizes.problems(rules)...), err
}

// eachSource visits the Go files of a tree that are no tests.
func eachSource(tree fs.FS, visit func(name string, text []byte) error) error {
	return fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := entry.Name()
			// What the go command ignores, too.
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return visit(name, text)
	})
}

// sizes are the lines of packages, by folder, and the methods of types, by folder and
// name.
type sizes struct{ lines, methods map[string]int }

func (s sizes) add(folder string, text []byte, file *ast.File) {
	if !ast.IsGenerated(file) {
		s.lines[folder] += bytes.Count(text, []byte("\n"))
	}
	for _, declared := range file.Decls {
		f, ok := declared.(*ast.FuncDecl)
		if !ok || f.Recv == nil {
			continue
		}
		of := f.Recv.List[0].Type
		for {
			switch wrapped := of.(type) {
			case *ast.StarExpr:
				of = wrapped.X
				continue
			case *ast.IndexExpr:
				of = wrapped.X
				continue
			case *ast.IndexListExpr:
				of = wrapped.X
				continue
			}
			break
		}
		if name, ok := of.(*ast.Ident); ok {
			s.methods[folder+"."+name.Name]++
		}
	}
}

func (s sizes) problems(rules rules) []string {
	return slices.Concat(
		tooLarge(s.lines, maxPackageLines, rules.largePackages, "lines"),
		tooLarge(s.methods, maxMethods, rules.largeTypes, "methods"))
}

func tooLarge(sizes map[string]int, most int, exceptions map[string]string, what string) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		if _, excepted := exceptions[name]; sizes[name] > most && !excepted {
			problems = append(problems, fmt.Sprintf("%s: %d %s, more than %d: split it by what it is about", name, sizes[name], what, most))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exceptions)) {
		if sizes[name] <= most {
			problems = append(problems, fmt.Sprintf("%s has no more than %d %s: it needs no exception", name, most, what))
		}
	}
	return problems
}

// checkFile returns what is wrong with one file that is no test.
func checkFile(name string, text []byte, allowed map[string][]string, sizes sizes) (problems []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	// A file behind a tag of its own keeps dependencies in go.mod and is never
	// built.
	if bytes.Contains(text, []byte("//go:build keepdeps\n")) {
		return nil, nil
	}
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if lines := bytes.Count(text, []byte("\n")); lines > maxFileLines && !ast.IsGenerated(file) {
		report("%d lines, more than %d: split it by what it is about", lines, maxFileLines)
	}
	if slices.Contains(emptyNames, file.Name.Name) {
		report("package %s says nothing: name it for the thing it holds", file.Name.Name)
	}
	// Programs and helpers outside the product's own tree are not in the map.
	folder := path.Dir(name)
	if outside := strings.SplitN(folder, "/", 2)[0]; outside != "test" && outside != "bench" {
		if permitted, known := allowed[folder]; known {
			problems = append(problems, checkImports(folder, file, permitted)...)
			sizes.add(folder, text, file)
		} else {
			report("package %s is not in the import map of architecture_test.go: add it there, and say in the commit which boundary it draws", folder)
		}
	}
	problems = append(problems, checkCode(name, file)...)
	return problems, nil
}

func checkImports(folder string, file *ast.File, permitted []string) (problems []string) {
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return append(problems, err.Error())
		}
		ours, isOurs := folderOf(imported)
		switch {
		case isOurs && !slices.Contains(permitted, ours) && !slices.Contains(permitted, "*"):
			problems = append(problems, fmt.Sprintf("package %s may not import %s", folder, imported))
		case isOurs && forTests(ours) && !forTests(folder):
			problems = append(problems, fmt.Sprintf("only tests may import %s", imported))
		case !isOurs && folder == "." && strings.Contains(strings.SplitN(imported, "/", 2)[0], "."):
			problems = append(problems, "the root imports the standard library only, not "+imported)
		case imported == "testing" && !forTests(folder):
			problems = append(problems, "only tests may import testing")
		}
	}
	return problems
}

// folderOf returns the folder of an import path of ours.
func folderOf(imported string) (folder string, ours bool) {
	if imported == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imported, modulePath+"/")
}

// checkCode finds calls that end the process, and func init.
func checkCode(name string, file *ast.File) (problems []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if node.Name.Name == "init" && node.Recv == nil {
				problems = append(problems, "func init runs before anybody can pass it anything: use a constructor")
			}
		case *ast.SelectorExpr:
			of, ok := node.X.(*ast.Ident)
			if !ok || name == mainFile || name == exampleFile {
				break
			}
			if of.Name == "os" && node.Sel.Name == "Exit" || of.Name == "log" && strings.HasPrefix(node.Sel.Name, "Fatal") {
				problems = append(problems, fmt.Sprintf("%s.%s: only %s ends the process; return an error", of.Name, node.Sel.Name, mainFile))
			}
		}
		return true
	})
	return problems
}

// TestArchitectureRows shows that a row without a package, and a package without a
// row, are found.
func TestArchitectureRows(t *testing.T) {
	tree := fstest.MapFS{"internal/seal/seal.go": {}, "internal/store/store_test.go": {}, "internal/words/words.go": {}}
	got := checkRows(tree, map[string][]string{"internal/seal": nil, "internal/store": nil, "internal/words": nil, "internal/testkit": nil},
		"| [internal/seal](../internal/seal/seal.go) | x |\n| [internal/store](../internal/store) | x |")
	want := []string{
		"the import map has internal/store, which is not a package", "the import map has internal/testkit, which is not a package",
		"package internal/words is not in the table of docs/architecture.md",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestArchitectureChecker shows that each rule can be broken.
func TestArchitectureChecker(t *testing.T) {
	const ours = modulePath + "/internal/"
	few := map[string]string{"internal/seal": "it is large"}
	for name, test := range map[string]struct {
		file, text, want string
		large            map[string]string
	}{
		"nothing wrong":      {"internal/drill/drill.go", `package drill; import _ "` + ours + `restore"`, "", nil},
		"root":               {"internal/seal/seal.go", `package seal; import _ "` + modulePath + `"`, "", nil},
		"main exits":         {mainFile, `package main; import "os"; func main() { os.Exit(1) }`, "", nil},
		"main imports all":   {"cmd/pgmedic/wire.go", `package main; import _ "` + ours + `render"`, "", nil},
		"test support":       {"internal/store/storetest/suite.go", `package storetest; import _ "testing"`, "", nil},
		"a test file":        {"internal/seal/seal_test.go", `package seal; import _ "` + ours + `backup"`, "", nil},
		"ignored":            {"internal/seal/testdata/x.go", `package util`, "", nil},
		"500 lines":          {"internal/seal/seal.go", "package seal" + strings.Repeat("\n", 500), "", nil},
		"forbidden import":   {"internal/backup/backup.go", `package backup; import _ "` + ours + `restore"`, "may not import", nil},
		"engine and config":  {"internal/backup/backup.go", `package backup; import _ "` + ours + `config"`, "may not import", nil},
		"root and ours":      {"root.go", `package pgmedic; import _ "` + ours + `seal"`, "may not import", nil},
		"root and others":    {"root.go", `package pgmedic; import _ "github.com/jackc/pgx/v5"`, "standard library only", nil},
		"unknown package":    {"internal/new/new.go", `package new`, "not in the import map", nil},
		"unknown, any place": {"x/x.go", `package x`, "not in the import map", nil},
		"test support used":  {"cmd/pgmedic/wire.go", `package main; import _ "` + ours + `store/storetest"`, "only tests may import", nil},
		"testing used":       {"internal/seal/seal.go", `package seal; import _ "testing"`, "only tests may import", nil},
		"empty name":         {"internal/seal/seal.go", `package util`, "says nothing", nil},
		"501 lines":          {"internal/seal/seal.go", "package seal" + strings.Repeat("\n", 501), "501 lines", nil},
		"exit":               {"cmd/pgmedic/run.go", `package main; import "os"; func f() { os.Exit(1) }`, "os.Exit", nil},
		"fatal":              {"internal/seal/seal.go", `package seal; import "log"; func f() { log.Fatalf("x") }`, "log.Fatalf", nil},
		"exit by value":      {"internal/seal/seal.go", `package seal; import "os"; var exit = os.Exit`, "os.Exit", nil},
		"init":               {"internal/seal/seal.go", `package seal; func init() {}`, "func init", nil},
		"39 methods":         {"internal/seal/seal.go", "package seal" + strings.Repeat("; func (*s) m() {}", 39), "", nil},
		"40 methods":         {"internal/seal/seal.go", "package seal" + strings.Repeat("; func (s[T]) m() {}", 40), "40 methods", nil},
		"3001 lines":         {"internal/seal/seal.go", "// Code generated by x. DO NOT EDIT.\npackage seal" + strings.Repeat("\n", 3001), "", nil},
		"needless exception": {"internal/seal/seal.go", "package seal", "needs no exception", few},
		"a method init":      {"internal/seal/seal.go", `package seal; type s int; func (s) init() {}`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, filepath.FromSlash(test.file))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			problems, err := checkTree(os.DirFS(root), rules{imports: allowedImports, largePackages: test.large})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(problems) > 0:
				t.Errorf("unexpected: %q", problems)
			case test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], test.want)):
				t.Errorf("got %q, want one with %q", problems, test.want)
			}
		})
	}
}

// TestCopiesKnowInterrupts: rows go through postgres.CopyIn and CopyOut, which tell an
// interrupt from a lost connection.
func TestCopiesKnowInterrupts(t *testing.T) {
	direct := regexp.MustCompile(`PgConn\(\)\.Copy(From|To)\(`)
	err := fs.WalkDir(os.DirFS("."), "internal", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || name == "internal/postgres/copy.go" {
			return err
		}
		text, err := os.ReadFile(name)
		if found := direct.Find(text); found != nil {
			t.Errorf("%s: %s…): use postgres.CopyIn or CopyOut", name, found)
		}
		return err
	})
	if err != nil || !direct.MatchString("conn.PgConn().CopyFrom(") {
		t.Error(err)
	}
}
