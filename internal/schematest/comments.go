package schematest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/pgmedic/pgmedic"

// comments reads what the sources say of types.
type comments struct {
	t        *testing.T
	packages map[string]*source
}

// source is what matters of a package's source.
type source struct {
	// types and fields are the comments of types, and of the fields of structs by
	// Type.Field; order has a struct's fields as they stand in it.
	types, fields map[string]string
	order         map[string][]string
	// constants are the texts that the constants of a type have.
	constants map[string][]string
}

func newComments(t *testing.T) *comments {
	return &comments{t: t, packages: map[string]*source{}}
}

// of reads the package of a type; nil for one that is not ours.
func (c *comments) of(typ reflect.Type) *source {
	c.t.Helper()
	folder, ours := strings.CutPrefix(typ.PkgPath(), modulePath)
	if !ours || typ.Name() == "" {
		return nil
	}
	if s := c.packages[folder]; s != nil {
		return s
	}
	s := &source{types: map[string]string{}, fields: map[string]string{}, order: map[string][]string{}, constants: map[string][]string{}}
	c.packages[folder] = s
	names, err := filepath.Glob(filepath.Join(filepath.Dir(Path("")), "..", filepath.FromSlash(folder), "*.go"))
	if err != nil || len(names) == 0 {
		c.t.Fatalf("the source of %s: %v, %v", typ, fs.ErrNotExist, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				s.read(g)
			}
		}
	}
	return s
}

func (s *source) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = g.Doc
			}
			s.types[spec.Name.Name] = doc.Text()
			if fields, ok := spec.Type.(*ast.StructType); ok {
				s.readFields(spec.Name.Name, fields)
			}
		case *ast.ValueSpec:
			s.readConstants(spec)
		}
	}
}

func (s *source) readFields(typ string, fields *ast.StructType) {
	for _, f := range fields.Fields.List {
		for _, name := range f.Names {
			s.order[typ] = append(s.order[typ], name.Name)
			doc := f.Doc
			if doc == nil {
				doc = f.Comment
			}
			s.fields[typ+"."+name.Name] = doc.Text()
		}
	}
}

func (s *source) readConstants(spec *ast.ValueSpec) {
	typ, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, v := range spec.Values {
		if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				s.constants[typ.Name] = append(s.constants[typ.Name], text)
			}
		}
	}
}

// typ is what is said of a type.
func (c *comments) typ(typ reflect.Type) string {
	s := c.of(typ)
	if s == nil {
		return ""
	}
	text := sentence(s.types[typ.Name()], typ)
	if rest, ok := strings.CutPrefix(text, typ.Name()+" "); ok { // its name is one of Go
		rest = isOrAre.ReplaceAllString(rest, "")
		return strings.ToUpper(rest[:1]) + rest[1:]
	}
	return text
}

// field is what is said of a struct's field: of several at once, where the comment of one
// before it names it.
func (c *comments) field(typ reflect.Type, field string) string {
	s := c.of(typ)
	if s == nil {
		return ""
	}
	if text := s.fields[typ.Name()+"."+field]; text != "" {
		return sentence(text, typ)
	}
	before := ""
	for _, name := range s.order[typ.Name()] {
		if name == field {
			break
		}
		if text := s.fields[typ.Name()+"."+name]; text != "" && word(field).MatchString(text) {
			before = text
		}
	}
	return sentence(before, typ)
}

// constants are the texts that a type may have, where it has constants.
func (c *comments) constants(typ reflect.Type) []string {
	if typ.Kind() != reflect.String {
		return nil
	}
	if s := c.of(typ); s != nil {
		return s.constants[typ.Name()]
	}
	return nil
}

var (
	identifier = regexp.MustCompile(`\b[A-Z]\w*\b`)
	isOrAre    = regexp.MustCompile(`^(is|are) `)
)

func word(name string) *regexp.Regexp { return regexp.MustCompile(`\b` + name + `\b`) }

// sentence is a comment for a reader of JSON: in one line, with the names of JSON.
func sentence(text string, typ reflect.Type) string {
	text = strings.Join(strings.Fields(text), " ")
	return identifier.ReplaceAllStringFunc(text, func(name string) string {
		if inJSON := jsonName(typ, name); inJSON != "" {
			return "`" + inJSON + "`"
		}
		return name
	})
}
