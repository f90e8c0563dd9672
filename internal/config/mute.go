package config

import (
	"path"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Mute silences a finding of the report until a day, for a reason.
type Mute struct {
	// Finding is its id; Object a pattern as path.Match takes it, empty for any.
	Finding, Object, Reason string
	// Until is the end of the last day, in UTC, on which it is silent.
	Until time.Time
}

// muteKeys are the keys of one mute.
func muteKeys() []string { return []string{"finding", "object", "reason", "until"} }

// mutes reads a list of mutes.
func (y *yamlFile) mutes(f field, e entry) ([]Mute, error) {
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return nil, y.errorf(e.key, "see docs/monitoring.md for an example", "%s must be a list", f.key)
	}
	var all []Mute
	for _, node := range list.Values {
		m, err := y.mute(f, node)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func (y *yamlFile) mute(f field, node ast.Node) (m Mute, err error) {
	until := ""
	places := map[string]*string{"finding": &m.Finding, "object": &m.Object, "reason": &m.Reason, "until": &until}
	err = y.item(node, f.key, muteKeys(), "see docs/monitoring.md for an example", func(e entry) (err error) {
		*places[e.name], err = y.scalar(e.value)
		return err
	})
	if err != nil {
		return m, err
	}
	_, badPattern := path.Match(m.Object, "")
	day, badDay := time.Parse(time.DateOnly, until)
	m.Until = day.Add(24 * time.Hour)
	switch {
	case m.Finding == "":
		err = y.errorf(node, "add finding: and its id, as the report prints it", "an item of %s has no finding", f.key)
	case strings.TrimSpace(m.Reason) == "" || strings.ContainsAny(m.Reason, "\n\r\x00"):
		err = y.errorf(node, "add reason: and one line on why", "an item of %s has no reason of one line", f.key)
	case badDay != nil:
		err = y.errorf(node, "add until: and a day such as 2027-01-31", "an item of %s has no day until which it is silent", f.key)
	case badPattern != nil:
		err = y.errorf(node, "a backslash before [ and * takes them as they are", "an item of %s has an object that is not a pattern", f.key)
	}
	return m, err
}

// muteText names mutes.
func muteText(all []Mute) string {
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.Finding
	}
	return strings.Join(names, ", ")
}
