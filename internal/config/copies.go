package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/pgmedic/pgmedic"
)

// Copy is a further store, to which each backup is copied. It has settings of its own
// and shares none with the first store, but for credentials where it has none.
type Copy struct {
	Name  string `yaml:"name" rule:"name" doc:"Name in messages and for --to. Empty: the store itself."`
	Store string `yaml:"store" rule:"store" doc:"Where the copies are: s3://bucket/prefix, azblob://container/prefix, gs://bucket/prefix, sftp://user@host/path, or a folder."`
	Access
	// ObjectLock is as that of backup.
	ObjectLock string `yaml:"object_lock" default:"off" enum:"off,governance,compliance" doc:"Lock the objects of copies for as long as retention keeps them there for certain."`
	// Retention is the store's own where the item has none.
	Retention Retention `yaml:"retention" doc:"How long copies are kept there. Default: the policy of retention."`

	origin Origin
	// retained are the settings of the item's own retention, by their key within it.
	retained map[string]Origin
}

// Place returns where the copies are.
func (c Copy) Place() Place { return placeOf(c.Store) }

// copiesKey is the key of the list in the file.
const copiesKey = "copies"

// copyFields and copySections are those of one item of the list.
func copyFields() []field {
	fs, _ := describe(reflect.TypeFor[Copy](), copiesKey+".", nil)
	return fs
}

func copySections() []section {
	_, ss := describe(reflect.TypeFor[Copy](), copiesKey+".", nil)
	return ss
}

// copyList reads the list of copies, item by item, each as a file of its own.
func (y *yamlFile) copyList(e entry) error {
	if e.value.Type() == ast.NullType {
		return nil
	}
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return y.errorf(e.key, "write each as `- store: …`", "copies must be a list")
	}
	for _, node := range list.Values {
		item := &yamlFile{name: y.name, base: y.base, fields: map[string]field{}, sections: map[string]bool{}, values: map[string]raw{}}
		for _, f := range copyFields() {
			item.fields[f.key] = f
		}
		for _, s := range copySections() {
			item.sections[s.key] = true
		}
		if err := item.mapping(copiesKey, node); err != nil {
			return err
		}
		y.copies = append(y.copies, copyItem{values: item.values, origin: Origin{Source: SourceFile, File: y.name, Line: lineOf(node)}})
	}
	return nil
}

// copyItem is one item of the list as the file has it.
type copyItem struct {
	values map[string]raw
	origin Origin
}

// copies fills in cfg.Copies: those of the file, and the one in the cloud.
func (l *loader) copies(cfg *Config) error {
	if l.yaml != nil {
		for _, item := range l.yaml.copies {
			c := Copy{origin: item.origin}
			for _, f := range copyFields() {
				r, ok := item.values[f.key]
				if !ok {
					r = raw{text: f.def, base: l.dir}
				} else if own, is := strings.CutPrefix(f.key, copiesKey+"."+retentionKey+"."); is {
					if c.retained == nil {
						c.retained = map[string]Origin{}
					}
					c.retained[own] = r.origin
				}
				if err := l.set(f, r, reflect.ValueOf(&c).Elem().FieldByIndex(f.index)); err != nil {
					return err
				}
			}
			c.late, l.late = l.late, nil
			c.kept, l.kept = l.kept, nil
			if c.Store == "" {
				return usage(c.origin.subject(copiesKey)+" has an item without a store", "write store: with "+forms()+", or a folder")
			}
			if c.Name == "" {
				c.Name = c.Store
			}
			c.inherit(cfg.Backup.Access)
			cfg.Copies = append(cfg.Copies, c)
		}
	}
	if cloud, asked := cfg.cloudCopy(); asked {
		cfg.Copies = append(cfg.Copies, cloud)
	}
	if err := l.retention(cfg); err != nil {
		return err
	}
	if err := l.allStores(cfg); err != nil {
		return err
	}
	return l.chooseStore(cfg)
}

// chooseStore makes the store that a flag names by the name or the place of a
// copy reachable as the copy is, and refuses two copies in one place.
func (l *loader) chooseStore(cfg *Config) error {
	given := l.lookup(storeField())
	named := slices.IndexFunc(cfg.Copies, func(c Copy) bool {
		return given.origin.Source > SourceFile && c.Name == given.text && c.Name != c.Store
	})
	if named >= 0 {
		cfg.Backup.Store = cfg.Copies[named].Store
	}
	if _, hint, err := checkStore(given.text, given.base); named < 0 && l.maybeCopy(given) {
		return usage(fmt.Sprintf("%s %v", given.origin.subject("backup.store"), err), cfg.copyHint(given.text, hint))
	}
	chosen := named >= 0 || given.origin.Source == SourceFlag
	for i, c := range cfg.Copies {
		if other := slices.IndexFunc(cfg.Copies[:i], func(o Copy) bool { return o.Name == c.Name || o.Place() == c.Place() }); other >= 0 {
			return usage(c.origin.subject(copiesKey)+" has the name or the store of another copy", "give each a name and a store of its own")
		}
		if c.Place() == cfg.Backup.Place() && !chosen {
			return usage(c.origin.subject(copiesKey)+" is the store that backups go to anyway", "name another place, or take it out")
		}
	}
	cfg.Copies = slices.DeleteFunc(cfg.Copies, func(c Copy) bool {
		same := c.Place() == cfg.Backup.Place()
		if same {
			cfg.Backup.Access = c.Access
			for _, f := range accessFields() { // those of the other store must not take their place
				delete(l.references, "backup."+f.key)
			}
		}
		return same
	})
	return nil
}

// maybeCopy reports whether a store is given by a word that can be the name of a
// copy only.
func (l *loader) maybeCopy(r raw) bool {
	return r.origin.Source > SourceFile && isBareWord(r.text) && !urlLike(r.text)
}

// copyHint adds to a hint the names of the copies that are configured, or the one
// that was most likely meant.
func (c *Config) copyHint(text, hint string) string {
	var names []string
	for _, one := range c.Copies {
		if one.Name != one.Store {
			names = append(names, one.Name)
		}
	}
	if guess := nearest(text, names); guess != "" {
		return "did you mean " + guess + "?"
	}
	if len(names) > 0 {
		return hint + ", or a configured copy: " + strings.Join(names, ", ")
	}
	return hint
}

// storeField is the setting backup.store.
func storeField() field {
	all := fields()
	return all[slices.IndexFunc(all, func(f field) bool { return f.key == "backup.store" })]
}

// ParseCopy returns the copy that text names: by its name, or by its place as
// backup.store would be written, relative to dir. What no configured copy has is
// reached as the store is. Errors are of KindUsage.
func (c *Config) ParseCopy(text, dir string) (Copy, error) {
	for _, known := range c.Copies {
		if known.Name == text {
			return known, nil
		}
	}
	place, hint, err := checkStore(text, dir)
	if err != nil {
		if isBareWord(text) {
			hint = c.copyHint(text, hint)
		}
		return Copy{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "--to %w", err)
	}
	to := Copy{Name: place, Store: place, Access: c.Backup.Access}
	for _, known := range c.Copies {
		if known.Place() == to.Place() {
			return known, nil
		}
	}
	if to.Place() == c.Backup.Place() {
		return Copy{}, usage("--to is the store to copy from", "name another place")
	}
	return to, nil
}

// copyValues are the settings of the copies as Effective shows them.
func (c *Config) copyValues() (values []Value) {
	for i, one := range c.Copies {
		for _, f := range copyFields() {
			key := fmt.Sprintf("%s[%d]%s", copiesKey, i, strings.TrimPrefix(f.key, copiesKey))
			values = append(values, Value{Key: key, Value: textOf(reflect.ValueOf(one).FieldByIndex(f.index)), Origin: one.origin})
		}
	}
	return values
}
