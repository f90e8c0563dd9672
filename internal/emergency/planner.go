package emergency

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// planner makes the steps of a case.
type planner struct {
	Facts
	steps []Step
}

// The words that stand in commands for what is not known. A step with one of them says what
// it means.
const (
	wordTable    = "SCHEMA.TABLE"
	wordName     = "TABLE_NAME"
	wordDatabase = "DATABASE_NAME"
	wordBackup   = "BACKUP_ID"
	wordMoment   = "MOMENT"
	wordHost     = "NEW_HOST"
	wordFolder   = "NEW_FOLDER"
	wordSchema   = "RESCUE_SCHEMA"
	wordColumn   = "COLUMN_NAME"
	wordKey      = "KEY_COLUMN"
	wordKeyFile  = "KEY_FILE"
	wordNewKey   = "NEW_KEY_FILE"
	wordStore    = "OFFLINE_STORE"
	wordServer   = "SERVER_HOST"
	wordTimeline = "OLD_TIMELINE"
)

// meanings are what the words stand for.
func meanings() map[string]string {
	return map[string]string{
		wordTable:    "the table with its schema, such as public.claims",
		wordName:     "the table without its schema",
		wordDatabase: "the database",
		wordBackup:   "the id of a backup from `pgmedic list`",
		wordMoment:   "the second before it happened, with its offset from UTC, such as 2026-11-29 10:41:59+00",
		wordHost:     "the host of the new server",
		wordFolder:   "a folder that does not exist yet, on a disk with room for all databases",
		wordSchema:   "the schema that the restore printed",
		wordColumn:   "the column that was changed",
		wordKey:      "the column that identifies a row, such as id",
		wordKeyFile:  "the file with the secret key that you found",
		wordNewKey:   "a new file for the new secret key",
		wordStore:    "a copy of the backups that the attacker could not write to",
		wordServer:   "the host of the server that you ask",
		wordTimeline: "the timeline of the old primary, from `pgmedic wal status`",
	}
}

// add appends a step.
func (p *planner) add(s Step) {
	for word, means := range meanings() {
		if containsWord(s.Command, word) {
			s.Unknown = append(s.Unknown, Unknown{Word: word, Means: means})
		}
	}
	slices.SortFunc(s.Unknown, func(a, b Unknown) int { return strings.Compare(a.Word, b.Word) })
	s.CanRun = s.CanRun && len(s.Unknown) == 0
	p.steps = append(p.steps, s)
}

// containsWord reports whether a text has a word that is not a part of a longer one.
func containsWord(text, word string) bool {
	isPart := func(c byte) bool {
		return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(word)
		if (i == 0 || !isPart(text[i-1])) && (end == len(text) || !isPart(text[end])) {
			return true
		}
		from = i + 1
	}
}

// say adds a step without a command.
func (p *planner) say(title, why string) { p.add(Step{Title: title, Why: why}) }

// uses says which flags of this run a command needs, too.
type uses int

const (
	usesNothing    uses = 0
	usesConnection uses = 1 << iota
	usesStore
	// changes is true of a command that pgmedic does not run from here.
	changes
)

// pgmedic adds a step that is a command of pgmedic's own.
func (p *planner) pgmedic(title, why string, u uses, args ...string) {
	argv := slices.Clone(args)
	if u&usesConnection != 0 {
		argv = append(argv, p.Connection...)
	}
	if u&usesStore != 0 && !slices.Contains(args, "--store") {
		argv = append(argv, p.Store...)
	}
	if u&(usesConnection|usesStore) != 0 && namesServer(args[0]) {
		argv = append(argv, p.Named...)
	}
	argv = append(argv, p.Global...)
	p.add(Step{Title: title, Why: why, Command: "pgmedic " + quoteAll(argv), Argv: argv, CanRun: u&changes == 0})
}

// namesServer reports whether a command takes --server. The others take the id of a backup.
func namesServer(command string) bool { return command != "verify" && command != "keys" }

// sql adds a step that is one statement.
func (p *planner) sql(title, why, database, statement string) {
	p.add(Step{Title: title, Why: why, Command: p.statement(database, statement)})
}

// statement is the command that runs one statement. One with quotes is easier to read where
// the shell takes it as it is.
func (p *planner) statement(database, statement string) string {
	if strings.Contains(statement, "'") && words.Clean(statement) == statement {
		return p.psql(database) + " <<'SQL'\n" + statement + ";\nSQL"
	}
	return p.psql(database) + " -c " + Quote(statement)
}

// emptyPath begins a command whose statements are about the server alone. They are often run
// by a superuser, and must not find a function that somebody has put into a schema of the path.
const emptyPath = "PGOPTIONS=-csearch_path= "

// psql is the command that connects to a database, and stops at the first error. In the
// application's database the path stays, because triggers can need it.
func (p *planner) psql(database string) string {
	path := ""
	if database == p.maintenance() {
		path = emptyPath
	}
	return path + "psql -X -v ON_ERROR_STOP=1 -d " + Quote(p.conninfo(database))
}

func (p *planner) shell(title, why, command string) {
	p.add(Step{Title: title, Why: why, Command: command})
}

// database is the database that it is about, or the word for it.
func (p *planner) database() string {
	if p.Database == "" {
		return wordDatabase
	}
	return p.Database
}

// maintenance is the database for statements about the whole server.
func (f Facts) maintenance() string { return cmp.Or(f.Maintenance, "postgres") }

// table is the pattern of tables, or the word for one.
func (p *planner) table() string {
	if p.Table == "" {
		return wordTable
	}
	return p.Table
}

// tableSQL is the table in SQL, or the word for it.
func (p *planner) tableSQL() string {
	if name, ok := TableName(p.Table); ok {
		return name
	}
	return wordTable // also of a pattern that can match several
}

// copyName is the name of a new database beside the one that it is about: short enough for
// PostgreSQL, which takes 63 bytes.
func (p *planner) copyName() string {
	at := p.Before()
	if at.IsZero() {
		at = p.Now.UTC()
	}
	name := p.database()
	suffix := at.Format("_20060102_150405")
	for len(name)+len(suffix) > 63 {
		runes := []rune(name)
		name = string(runes[:len(runes)-1])
	}
	return name + suffix
}

// usable reports whether nothing is known against a backup of the database.
func (p *planner) usable(b Backup) bool {
	return b.Proof != pgmedic.ProofFailed && (p.Database == "" || b.Database == p.Database)
}

// backup chooses the newest backup from before the accident. If that moment is not known it
// passes over those that have far less than the ones before them.
func (p *planner) backup() (b Backup, ok bool) {
	for _, b := range p.Backups {
		if p.usable(b) && (p.When.IsZero() && !b.Shrunk || !p.When.IsZero() && b.At.Before(p.When)) {
			return b, true
		}
	}
	return Backup{}, false
}

// words say what a backup is, and what is proven of it.
func (p *planner) backupWords(b Backup) string {
	text := fmt.Sprintf("Backup %s holds the data of %s", b.ID, moment(b.At))
	switch {
	case b.Proof == pgmedic.ProofProven && !b.Claimed:
		text += " and is proven to restore"
	case b.Proof == pgmedic.ProofProven:
		text += " and is said to be proven, which this host has no key to check"
	default:
		text += ". It is not proven: the restore compares it with what was recorded"
	}
	if b.RecoverySeconds > 0 {
		text += fmt.Sprintf(". A drill restored it in %s", words.Duration(time.Duration(b.RecoverySeconds*float64(time.Second)).Round(time.Second)))
	}
	return text + "."
}

// findBackup adds the steps to find a backup where none is known here.
func (p *planner) findBackup() {
	if p.When.IsZero() {
		p.pgmedic("Choose a backup", "No backup that can be used is known here. Take the newest from before the accident; one that is `proven` if you can, never a `failed` one.", usesStore, "list")
	} else {
		p.pgmedic("Choose a backup", "No backup from before "+moment(p.When)+" is known here. See what there is, and in the other places.", usesStore, "list")
	}
	for _, s := range p.otherStores() {
		p.pgmedic("See what the copy has", "", usesStore, "list", "--store", s.Name)
	}
}

// otherStores are the copies that have backups, or may have.
func (p *planner) otherStores() []Store {
	var others []Store
	for i, s := range p.Stores {
		if i > 0 && s.Name != "" && (s.Unread != "" || s.Count > 0) {
			others = append(others, s)
		}
	}
	return others
}

// room says whether the folder for throwaway servers is large enough.
func (p *planner) room() string {
	switch {
	case p.Room.NeedsBytes <= 0 || p.Room.Dir == "":
		return ""
	case p.Room.FreeBytes < p.Room.NeedsBytes:
		return fmt.Sprintf(" It needs about %s in %s, where %s are free: name another folder with --scratch-dir.", words.Bytes(p.Room.NeedsBytes), p.Room.Dir, words.Bytes(p.Room.FreeBytes))
	}
	return ""
}

// literal quotes a text for SQL.
func literal(s string) string { return strings.TrimSpace(sqltext.QuoteLiteral(s)) }
