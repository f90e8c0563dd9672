package notify

import (
	"net/mail"
	"slices"

	"github.com/pgmedic/pgmedic"
)

// Usable returns what of the options works: the channels that New accepts, and routes that
// lead to them. A job must not stop because its report can't be sent by one of them, so it
// takes these, and reports the errors: they are what New would refuse. What waits for a
// channel that is left out stays. An event whose route leads only to channels that can't be
// used, and every event where the routes themselves are wrong, goes to all that can.
func (o Options) Usable() (Options, []error) {
	var wrong []error
	var usable []Channel
	absent := slices.Clone(o.Absent)
	for _, c := range o.Channels {
		c, err := c.withoutWrongReceivers()
		if err != nil {
			wrong = append(wrong, err)
		}
		one := o
		one.Channels, one.Routes = append(slices.Clone(usable), c), nil
		if _, err := New(one); err == nil {
			usable = one.Channels
			continue
		} else if len(c.To) > 0 || c.Type != TypeEmail { // else it is said above
			wrong = append(wrong, err)
		}
		if !slices.ContainsFunc(usable, func(other Channel) bool { return other.Name == c.Name }) {
			absent = append(absent, c.Name)
		}
	}
	if err := checkRoutes(o.Routes, slices.Concat(names(o.Channels), o.Absent)); err != nil {
		wrong = append(wrong, err)
	}
	o.Channels, o.Absent = usable, absent
	routes := make([]Route, 0, len(o.Routes))
	for _, r := range o.Routes {
		one := Route{Match: r.Match, To: usableOf(r.To, usable)}
		for _, step := range r.Escalate {
			one.Escalate = append(one.Escalate, Step{After: step.After, To: usableOf(step.To, usable)})
		}
		routes = append(routes, one)
	}
	if checkRoutes(routes, names(usable)) != nil {
		routes = nil
	}
	o.Routes = routes
	return o, wrong
}

// usableOf are those names that can be used; all that can, where none of them is.
func usableOf(to []string, usable []Channel) []string {
	left := slices.DeleteFunc(slices.Clone(to), func(name string) bool { return !slices.Contains(names(usable), name) })
	if len(left) == 0 && len(to) > 0 {
		return names(usable)
	}
	return left
}

// withoutWrongReceivers leaves out the receivers of e-mail that are not addresses, with an
// error where there is one.
func (c Channel) withoutWrongReceivers() (Channel, error) {
	var to []string
	for _, address := range c.To {
		if _, err := mail.ParseAddress(address); err == nil {
			to = append(to, address)
		}
	}
	if len(to) == len(c.To) {
		return c, nil
	}
	c.To = to
	return c, pgmedic.Errorf(pgmedic.KindUsage, "write it as dba@clinic.example", "channel %s has an address that is not one", c.Name)
}
