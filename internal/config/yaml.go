package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/pgmedic/pgmedic"
)

// maxFileBytes is the size above which a file is not a configuration but a
// mistake. It also bounds how deep the YAML parser can recurse.
const maxFileBytes = 64 << 10

// raw is a value as a source has it, before it is checked. In the file a list
// has items and a mapping has pairs; everything else has text.
type raw struct {
	text  string
	items []string
	pairs map[string]string
	// assertions are those of the one setting that is a list of them.
	assertions []Assertion
	// mutes are those of the other one.
	mutes  []Mute
	origin Origin
	// base is the folder that relative paths in the value start from.
	base string
}

// yamlFile collects the values of a pgmedic.yaml by walking its syntax tree. Values are
// taken as they are written, so that a password of 007 stays what it is.
//
// The library's own strict decoding into a struct can't replace the walk, as of v1.19.2.
// It makes 7 of the password 007. Where a key is not a text, as in "1: x", it leaves the
// whole mapping out without an error, and so it does with a second document. It follows
// anchors and merge keys. Its errors quote the file, which has passwords. It keeps no
// lines for values that are checked later, and for `config show`.
type yamlFile struct {
	name, base string
	fields     map[string]field
	sections   map[string]bool
	values     map[string]raw
	copies     []copyItem
	schedules  []scheduleItem
	channels   []Channel
	routes     []Route
}

// parseYAML reads the values out of data. The name is for messages, base the
// folder for relative paths. Empty values are left out.
func parseYAML(data []byte, name, base string) (*yamlFile, error) {
	y := &yamlFile{name: name, base: base, fields: map[string]field{}, sections: map[string]bool{"": true}, values: map[string]raw{}}
	for _, f := range fields() {
		y.fields[f.key] = f
	}
	for _, s := range sections() {
		y.sections[s.key] = true
	}
	root, err := y.root(data)
	if err != nil || root == nil {
		return y, err
	}
	return y, y.mapping("", root)
}

// root parses data into its one document, or nil for none.
func (y *yamlFile) root(data []byte) (ast.Node, error) {
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	if !utf8.Valid(data) || strings.ContainsRune(string(data), 0) {
		return nil, usage(y.name+": is not a text file in UTF-8", "save it as UTF-8")
	}
	// Two equal keys are found in mapping: the parser's message quotes them.
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, y.syntaxError(err)
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, y.errorf(doc.Body, "pgmedic.yaml is one document; remove the line ---", "a second document begins")
		}
		root = doc.Body
	}
	return root, nil
}

// syntaxError turns an error of the parser into one line. The parser's own
// text has a piece of the file in it; of its message only those are kept that
// quote nothing.
func (y *yamlFile) syntaxError(err error) error {
	const hint = `check the indentation (spaces, no tabs) and put values with special characters in "quotes"`
	line, message := 0, "not valid YAML"
	var ye yaml.Error
	if errors.As(err, &ye) {
		if t := ye.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
		if m := ye.GetMessage(); m != "" && !strings.ContainsAny(m, "\"\n") {
			message += ": " + m
		}
	}
	if line == 0 {
		return usage(y.name+": "+message, hint)
	}
	return usage(fmt.Sprintf("%s:%d: %s", y.name, line, message), hint)
}

// errorf returns a usage error that begins with the place of node.
func (y *yamlFile) errorf(node ast.Node, hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "%s:%d: %s", y.name, lineOf(node), fmt.Sprintf(format, args...))
}

// mapping reads the section of the given key, "" for the whole file.
func (y *yamlFile) mapping(key string, node ast.Node) error {
	if node.Type() == ast.NullType {
		return nil // a section of which every line is a comment
	}
	entries, err := y.entries(node, key)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := e.name
		if key != "" {
			at = key + "." + e.name
		}
		f, known := y.fields[at]
		switch {
		case y.sections[at]:
			err = y.mapping(at, e.value)
		case known:
			err = y.value(f, e)
		case at == copiesKey:
			err = y.copyList(e)
		case at == schedulesKey:
			err = y.scheduleList(e)
		case at == channelsKey:
			err = y.channelList(e)
		case at == routesKey:
			err = y.routeList(e)
		default:
			err = y.unknown(key, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry is one line of a mapping.
type entry struct {
	name  string
	key   ast.Node
	value ast.Node
}

// entries returns what a mapping holds, in its order, each name once.
func (y *yamlFile) entries(node ast.Node, what string) ([]entry, error) {
	if what == "" {
		what = "the file"
	}
	m, ok := node.(ast.MapNode)
	if !ok || !isMapping(node) {
		return nil, y.errorf(node, "", "%s must be a mapping of keys to values", what)
	}
	var all []entry
	lines := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		name, err := y.scalar(k)
		if err != nil || k.IsMergeKey() || k.Type() == ast.NullType {
			return nil, y.errorf(k, "", "a key of %s is not a plain name", what)
		}
		if first, twice := lines[name]; twice {
			return nil, y.errorf(k, "keep one of the two", "%s has the same key twice, first on line %d", what, first)
		}
		lines[name] = lineOf(k)
		all = append(all, entry{name: name, key: k, value: it.Value()})
	}
	return all, nil
}

// item reads an item of a list, which is a mapping with the given keys and no others.
// What read returns has no place yet, unless it has a kind.
func (y *yamlFile) item(node ast.Node, list string, keys []string, hint string, read func(entry) error) error {
	entries, err := y.entries(node, "an item of "+list)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(keys, e.name) {
			known := "the keys here are " + strings.Join(keys, ", ")
			if guess := nearest(e.name, keys); guess != "" {
				known = "did you mean " + guess + "?"
			}
			return y.errorf(e.key, known, "unknown key in %s", list)
		}
		if err := read(e); err != nil {
			var placed *pgmedic.Error
			if errors.As(err, &placed) {
				return err
			}
			return y.errorf(e.key, hint, "%s of an item of %s %v", e.name, list, err)
		}
	}
	return nil
}

// value reads one setting.
func (y *yamlFile) value(f field, e entry) error {
	r := raw{base: y.base, origin: Origin{Source: SourceFile, File: y.name, Line: lineOf(e.key)}}
	var err error
	list, listed := e.value.(*ast.SequenceNode)
	switch {
	case e.value.Type() == ast.NullType:
		return nil
	case f.isMap():
		r.pairs, err = y.pairs(f, e)
	case f.isAssertions():
		r.assertions, err = y.assertions(f, e)
	case f.isMutes():
		r.mutes, err = y.mutes(f, e)
	case f.isList() && listed:
		r.items, err = y.items(f, list)
	default:
		r.text, err = y.scalar(e.value)
		if err != nil {
			err = y.errorf(e.key, "", "%s %v", f.key, err)
		}
	}
	if err != nil {
		return err
	}
	if r.text != "" || len(r.items) > 0 || len(r.pairs) > 0 || len(r.assertions) > 0 || len(r.mutes) > 0 {
		y.values[f.key] = r
	}
	return nil
}

func (y *yamlFile) items(f field, list *ast.SequenceNode) ([]string, error) {
	var items []string
	for _, node := range list.Values {
		text, err := y.scalar(node)
		if err == nil && text == "" {
			err = errors.New("must not be empty")
		}
		if err != nil {
			return nil, y.errorf(node, "", "an item of %s %v", f.key, err)
		}
		items = append(items, text)
	}
	return items, nil
}

func (y *yamlFile) pairs(f field, e entry) (map[string]string, error) {
	entries, err := y.entries(e.value, f.key)
	if err != nil {
		return nil, err
	}
	pairs := map[string]string{}
	for _, p := range entries {
		text, err := y.scalar(p.value)
		if err == nil && (p.name == "" || text == "") {
			err = errors.New("must not be empty")
		}
		if err != nil {
			return nil, y.errorf(p.key, "", "a label of %s %v", f.key, err)
		}
		pairs[p.name] = text
	}
	return pairs, nil
}

// scalar returns the text of a single value, as written but for its quotes.
func (y *yamlFile) scalar(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.NullNode:
		return "", nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", errors.New("uses a YAML anchor, alias or tag, which pgmedic.yaml does not have")
	default:
		return "", errors.New("must be a single value")
	}
}

// unknown reports a key that no setting has, with the nearest one that has.
func (y *yamlFile) unknown(section string, e entry) error {
	if !isName(e.name) {
		return y.errorf(e.key, "", "unknown key (not a name of letters, digits and _)")
	}
	if y.sections[e.name] && section != "" {
		return y.errorf(e.key, "its lines begin at the margin", "unknown key %q; did you mean the section %q?", section+"."+e.name, e.name)
	}
	siblings := y.children(section)
	guess := nearest(e.name, siblings)
	if guess == "" {
		for _, key := range slices.Sorted(maps.Keys(y.fields)) {
			if key == e.name || strings.HasSuffix(key, "."+e.name) {
				guess = key
				break
			}
		}
	}
	name := e.name
	if section != "" {
		name = section + "." + e.name
	}
	if guess != "" {
		return y.errorf(e.key, "", "unknown key %q; did you mean %q?", name, guess)
	}
	hint := "the keys here are " + strings.Join(siblings, ", ")
	return y.errorf(e.key, hint, "unknown key %q", name)
}

// children returns the last names of the keys right below a section.
func (y *yamlFile) children(section string) []string {
	if section != "" {
		section += "."
	}
	names := map[string]bool{}
	if section == "" {
		names[copiesKey], names[schedulesKey] = true, true
	}
	for _, list := range []string{channelsKey, routesKey} {
		if name, ok := strings.CutPrefix(list, section); ok && section != "" {
			names[name] = true
		}
	}
	for key := range y.fields {
		if rest, ok := strings.CutPrefix(key, section); ok {
			name, _, _ := strings.Cut(rest, ".")
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// isMapping reports whether node is a mapping itself; an anchored or tagged
// one is not.
func isMapping(node ast.Node) bool {
	return node.Type() == ast.MappingType || node.Type() == ast.MappingValueType
}

// isName reports whether s looks like a key, so that it may be printed.
func isName(s string) bool {
	return len(s) <= 48 && regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(s)
}

func lineOf(node ast.Node) int {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}
