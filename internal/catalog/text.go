package catalog

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/pgmedic/pgmedic"
)

// marshalManifest writes a manifest as JSON, with text that is not UTF-8 escaped as
// pgmedic.EscapeBytes does it.
func marshalManifest(b *pgmedic.Backup) ([]byte, error) {
	manifest, err := json.Marshal(b)
	// Of a byte that is not a character json.Marshal makes this, in ASCII; of the
	// character U+FFFD itself it does not.
	if err != nil || !bytes.Contains(manifest, []byte(`\ufffd`)) {
		return manifest, err
	}
	return json.Marshal(escaped(reflect.ValueOf(*b)).Interface())
}

// escaped returns a copy of a value in which all text is escaped, but that of maps:
// labels are our user's.
func escaped(v reflect.Value) reflect.Value {
	switch v.Kind() { //nolint:exhaustive // others hold no text
	case reflect.String:
		return reflect.ValueOf(pgmedic.EscapeBytes(v.String())).Convert(v.Type())
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(escaped(v.Elem()))
		return c
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			c.Index(i).Set(escaped(v.Index(i)))
		}
		return c
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.Field(i).Set(escaped(v.Field(i)))
			}
		}
		return c
	}
	return v
}

// replaceText replaces in a value that can be set all text that escaped changes.
func replaceText(v reflect.Value, replace func(string) string) {
	switch v.Kind() { //nolint:exhaustive // others hold no text
	case reflect.String:
		v.SetString(replace(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			replaceText(v.Elem(), replace)
		}
	case reflect.Slice:
		for i := range v.Len() {
			replaceText(v.Index(i), replace)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				replaceText(v.Field(i), replace)
			}
		}
	}
}
