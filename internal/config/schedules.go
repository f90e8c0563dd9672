package config

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// schedulesKey is the key of the list of schedules in the file.
const schedulesKey = "schedules"

// scheduleHint says where the list is described.
const scheduleHint = "see docs/schedules.md for an example"

// scheduleItem is one schedule of the file.
type scheduleItem struct {
	schedule.Entry
	origin Origin
}

// scheduleList reads the list of schedules.
func (y *yamlFile) scheduleList(e entry) error {
	if e.value.Type() == ast.NullType {
		return nil
	}
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return y.errorf(e.key, scheduleHint, "schedules must be a list")
	}
	for _, node := range list.Values {
		item, err := y.schedule(node)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(y.schedules, func(o scheduleItem) bool { return o.Name == item.Name }) {
			return y.errorf(node, "give each a name of its own", "two schedules are named %s", item.Name)
		}
		y.schedules = append(y.schedules, scheduleItem{Entry: item, origin: Origin{Source: SourceFile, File: y.name, Line: lineOf(node)}})
	}
	return nil
}

// schedule reads one schedule. An error has the line of the key that is wrong.
func (y *yamlFile) schedule(node ast.Node) (schedule.Entry, error) {
	written, lines := schedule.Written{Values: map[string][]string{}}, map[string]ast.Node{"": node}
	err := y.item(node, schedulesKey, schedule.Keys(), scheduleHint, func(e entry) (err error) {
		lines[e.name] = e.key
		if e.name != "args" {
			written.Values[e.name], err = y.oneOrMore(e, e.name+" of a schedule")
			return err
		}
		args, err := y.entries(e.value, "args of a schedule")
		for _, a := range args {
			var values []string
			if values, err = y.oneOrMore(a, "an argument of a schedule"); err != nil {
				return err
			}
			written.Args = append(written.Args, schedule.Arg{Name: a.name, Values: values})
		}
		return err
	})
	if err != nil {
		return schedule.Entry{}, err
	}
	item, key, err := written.Entry()
	if err != nil {
		return schedule.Entry{}, y.errorf(lines[key], pgmedic.HintOf(err), "%v", err)
	}
	return item, nil
}

// oneOrMore reads one value, or a list of them.
func (y *yamlFile) oneOrMore(e entry, what string) (values []string, err error) {
	nodes := []ast.Node{e.value}
	if list, ok := e.value.(*ast.SequenceNode); ok {
		nodes = list.Values
	}
	for _, node := range nodes {
		text, err := y.scalar(node)
		if err != nil || text == "" {
			return nil, y.errorf(e.key, scheduleHint, "%s must be one value, or a list of them", what)
		}
		values = append(values, text)
	}
	return values, nil
}

// scheduleValues are the schedules as Effective shows them.
func (c *Config) scheduleValues() (values []Value) {
	for i, s := range c.Schedules {
		values = append(values, Value{
			Key: fmt.Sprintf("%s[%d]", schedulesKey, i), Origin: c.scheduleOrigins[i],
			Value: fmt.Sprintf("%s: %s at %s %s", s.Name, s.Job, s.Times, s.Times.Zone()),
		})
	}
	return values
}
