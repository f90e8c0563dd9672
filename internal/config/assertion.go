package config

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Assertion is a question to a restored copy and the answer that it must give.
type Assertion struct {
	// Name is what receipts call it; SQL is one query of one column.
	Name, SQL string
	// Expect are the rows that it must return. None, and no bounds, mean true.
	Expect []string
	// Min and Max bound the one number that it returns.
	Min, Max *float64
}

// assertionKeys are the keys of one assertion.
func assertionKeys() []string { return []string{"name", "sql", "expect", "min", "max"} }

// assertions reads a list of assertions.
func (y *yamlFile) assertions(f field, e entry) ([]Assertion, error) {
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return nil, y.errorf(e.key, "see docs/drills.md for an example", "%s must be a list", f.key)
	}
	var all []Assertion
	for _, node := range list.Values {
		a, err := y.assertion(f, node)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(b Assertion) bool { return b.Name == a.Name }) {
			return nil, y.errorf(node, "give each a name of its own", "%s has the same name twice", f.key)
		}
		all = append(all, a)
	}
	return all, nil
}

func (y *yamlFile) assertion(f field, node ast.Node) (a Assertion, err error) {
	err = y.item(node, f.key, assertionKeys(), "see docs/drills.md for an example", func(e entry) (err error) {
		switch e.name {
		case "name":
			a.Name, err = y.scalar(e.value)
		case "sql":
			a.SQL, err = y.scalar(e.value)
		case "expect":
			a.Expect, err = y.expected(e.value)
		case "min":
			a.Min, err = y.number(e.value)
		case "max":
			a.Max, err = y.number(e.value)
		}
		return err
	})
	if err != nil {
		return a, err
	}
	switch {
	case strings.TrimSpace(a.Name) == "" || strings.ContainsAny(a.Name, "\n\r\x00"):
		err = y.errorf(node, "add name: and a few words", "an item of %s has no name of one line", f.key)
	case strings.TrimSpace(a.SQL) == "":
		err = y.errorf(node, "add sql: and one query", "an item of %s has no sql", f.key)
	case len(a.Expect) > 0 && (a.Min != nil || a.Max != nil):
		err = y.errorf(node, "leave out one of them", "an item of %s has expect, and min or max", f.key)
	case a.Min != nil && a.Max != nil && *a.Min > *a.Max:
		err = y.errorf(node, "", "an item of %s has a min above its max", f.key)
	}
	return a, err
}

// expected reads one value, or a list of them, one for each row.
func (y *yamlFile) expected(node ast.Node) ([]string, error) {
	values := []ast.Node{node}
	if list, ok := node.(*ast.SequenceNode); ok {
		values = list.Values
	}
	if len(values) == 0 {
		return nil, errors.New("is an empty list; ask whether there are rows instead")
	}
	var rows []string
	for _, value := range values {
		if value.Type() == ast.NullType {
			return nil, errors.New("is null, which nothing equals; ask whether it IS NULL instead")
		}
		text, err := y.scalar(value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, text)
	}
	return rows, nil
}

func (y *yamlFile) number(node ast.Node) (*float64, error) {
	text, err := y.scalar(node)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return nil, errors.New("must be a number")
	}
	return &n, nil
}

// assertionText names assertions.
func assertionText(all []Assertion) string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = a.Name
	}
	return strings.Join(names, ", ")
}
