// Package pgconf reads PostgreSQL's files of settings as text: which values a server that is
// started on them has, and which files they include. It starts nothing, and knows no setting.
package pgconf

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The files of a data folder that a server reads, in this order: what is in the second takes
// precedence.
const (
	MainFile = "postgresql.conf"
	AutoFile = "postgresql.auto.conf"
)

// maxDepth is how deep files may include others (CONF_FILE_MAX_DEPTH in conffiles.h): a server
// refuses more.
const maxDepth = 10

// maxFiles bounds how many files are read, and how many that are not read are listed: files can
// include each other more than once.
const maxFiles = 1000

// Setting is one line of a file.
type Setting struct {
	// Name is in lower case.
	Name, Value string
	// File is the one that it stands in, relative to the data folder.
	File string
}

// Include is a file, or a folder of files, that a file of settings includes and that is not
// among those that were read.
type Include struct {
	// File is the one that includes it.
	File string
	// Path is as it stands there.
	Path string
	// Optional is true where a server starts without it (include_if_exists).
	Optional bool
}

// Settings are what the files of a data folder say.
type Settings struct {
	// Files are those that were read, in their order.
	Files []string
	// Unread are those that are included from elsewhere.
	Unread []Include
	last   map[string]Setting
}

// Get returns a setting, by its name in lower case. The last line that has it counts.
func (s *Settings) Get(name string) (Setting, bool) {
	v, ok := s.last[name]
	return v, ok
}

// Value returns the value of a setting, or an empty text where no file has it.
func (s *Settings) Value(name string) string { return s.last[name].Value }

// Bool returns the value of a setting that is on or off, and whether it is one of these
// (parse_bool_with_len in bool.c).
func (s *Settings) Bool(name string) (on, known bool) {
	text := strings.ToLower(s.Value(name))
	switch {
	case text == "":
		return false, false
	case text == "1", text == "on", begins("true", text), begins("yes", text):
		return true, true
	case text == "0", text == "of", text == "off", begins("false", text), begins("no", text):
		return false, true
	}
	return false, false
}

// begins reports whether a word may be written so: a server takes its beginning for the word.
func begins(word, text string) bool { return strings.HasPrefix(word, text) }

// List returns the parts of a value that is a list of names, without the quotes around them.
func (s *Settings) List(name string) (all []string) {
	for part := range strings.SplitSeq(s.Value(name), ",") {
		part = strings.TrimSpace(part)
		if len(part) > 1 && part[0] == '"' && part[len(part)-1] == '"' {
			part = strings.ReplaceAll(part[1:len(part)-1], `""`, `"`)
		}
		if part != "" {
			all = append(all, part)
		}
	}
	return all
}

// Read reads the files of a data folder: postgresql.conf with what it includes, and then
// postgresql.auto.conf. open returns the text of a file by its path relative to the data folder,
// and false where there is none; folder lists the names in a folder.
func Read(open func(name string) (string, bool), folder func(name string) []string) *Settings {
	r := &reader{open: open, folder: folder, s: &Settings{last: map[string]Setting{}}}
	for _, name := range []string{MainFile, AutoFile} {
		if text, ok := open(name); ok {
			r.file(name, text, 0)
		}
	}
	return r.s
}

type reader struct {
	open   func(string) (string, bool)
	folder func(string) []string
	s      *Settings
}

func (r *reader) file(name, text string, depth int) {
	r.s.Files = append(r.s.Files, name)
	for _, line := range Parse(text) {
		switch line.Name {
		case "include", "include_if_exists":
			r.include(name, line, depth)
		case "include_dir":
			r.includeDir(name, line, depth)
		default:
			line.File = name
			r.s.last[line.Name] = line
		}
	}
}

// include reads a file whose path is relative to the folder of that which includes it.
func (r *reader) include(from string, line Setting, depth int) {
	if at, ok := within(from, line.Value); ok && depth < maxDepth {
		if text, ok := r.read(at); ok {
			r.file(at, text, depth+1)
			return
		}
	}
	r.unread(Include{File: from, Path: line.Value, Optional: line.Name == "include_if_exists"})
}

// read opens a file, unless there were too many.
func (r *reader) read(name string) (string, bool) {
	if len(r.s.Files) >= maxFiles {
		return "", false
	}
	return r.open(name)
}

func (r *reader) unread(i Include) {
	if len(r.s.Unread) < maxFiles {
		r.s.Unread = append(r.s.Unread, i)
	}
}

// includeDir reads the files of a folder whose names end in .conf, in the order of their bytes
// (GetConfFilesInDir in conffiles.c).
func (r *reader) includeDir(from string, line Setting, depth int) {
	at, ok := within(from, line.Value)
	if !ok || depth >= maxDepth {
		r.unread(Include{File: from, Path: line.Value})
		return
	}
	names := slices.Sorted(slices.Values(r.folder(at)))
	for _, name := range names {
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".conf") {
			continue
		}
		if text, ok := r.read(path.Join(at, name)); ok {
			r.file(path.Join(at, name), text, depth+1)
		}
	}
}

// within returns where a path of an include leads in the data folder, and false where it leads
// out of that, or is absolute.
func within(from, to string) (string, bool) {
	if to == "" || path.IsAbs(to) {
		return "", false
	}
	at := path.Join(path.Dir(from), to)
	return at, at != ".." && !strings.HasPrefix(at, "../")
}

// settingLine matches a line (guc-file.l): a name, perhaps an equals sign, a value that is quoted
// or has no blank in it, and perhaps a comment.
var settingLine = regexp.MustCompile(`^[ \t]*([A-Za-z_\x80-\xff][\w$.\x80-\xff]*)(?:[ \t]*=[ \t]*|[ \t]+)('(?:[^'\\]|\\.|'')*'|[^\s'#=]+)[ \t\r]*(?:#.*)?$`)

// Parse returns the settings of a file, in their order, with the lines that include others.
// What is not a setting is left out: a server does not start with it.
func Parse(text string) (all []Setting) {
	for line := range strings.SplitSeq(text, "\n") {
		if m := settingLine.FindStringSubmatch(line); m != nil {
			all = append(all, Setting{Name: strings.ToLower(m[1]), Value: unquote(m[2])})
		}
	}
	return all
}

// unquote reads a value (DeescapeQuotedString in guc-file.l).
func unquote(text string) string {
	if !strings.HasPrefix(text, "'") {
		return text
	}
	text = text[1 : len(text)-1]
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			i += escaped(&b, text[i:])
		case c == '\'' && i+1 < len(text): // two of them
			i++
			b.WriteByte('\'')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escaped writes what is behind a backslash, and returns how many bytes more than one that was.
func escaped(b *strings.Builder, text string) int {
	if at := strings.IndexByte("bfnrt", text[0]); at >= 0 {
		b.WriteByte("\b\f\n\r\t"[at])
		return 0
	}
	n := 0
	for n < len(text) && n < 3 && text[n] >= '0' && text[n] <= '7' {
		n++
	}
	if n == 0 {
		b.WriteByte(text[0])
		return 0
	}
	value, _ := strconv.ParseUint(text[:n], 8, 16) // three digits at most
	b.WriteByte(byte(value))
	return n - 1
}
