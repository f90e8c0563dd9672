// Package markdown writes a page of the documentation for a terminal.
package markdown

import (
	"strconv"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say how Render lays a page out.
type Options struct {
	// Width is the widest line, in columns of the terminal; zero is 100, and anything
	// less than 20 is 20. Only code and words that are wider by themselves, such as
	// addresses, are not broken, so that they can be copied.
	Width int
	// Color colours the page. The text is the same without.
	Color bool
	// Link returns what is shown in brackets after the words of a link, by its
	// destination; nil shows addresses on the web, and nothing of links within the
	// documentation.
	Link func(destination string) string
}

// Render returns a text in Markdown, CommonMark with tables, as lines for a terminal, each
// ended with a newline. Headings are underlined, code keeps its lines and, within a
// sentence, its backticks, HTML is left out, and a table that is too wide becomes a list of
// its rows. What would drive a terminal is written as escapes.
func Render(source string, opts Options) string {
	if opts.Width == 0 {
		opts.Width = 100
	}
	if opts.Link == nil {
		opts.Link = webAddress
	}
	r := renderer{source: []byte(source), paint: terminal.Painter{On: opts.Color}, link: opts.Link}
	page := goldmark.New(goldmark.WithExtensions(extension.Table)).Parser().Parse(text.NewReader(r.source))
	var b strings.Builder
	for _, line := range r.blocks(page, max(20, opts.Width), true) {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// webAddress shows an address that can be opened anywhere.
func webAddress(destination string) string {
	if strings.HasPrefix(destination, "https://") || strings.HasPrefix(destination, "http://") {
		return destination
	}
	return ""
}

// renderer turns the nodes of one page into lines.
type renderer struct {
	source []byte
	paint  terminal.Painter
	link   func(string) string
}

// blocks returns the lines of what a node holds, apart by empty lines where it is loose.
func (r renderer) blocks(n ast.Node, width int, loose bool) []string {
	var all []string
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		lines := r.block(c, width)
		if len(lines) == 0 {
			continue
		}
		if len(all) > 0 && loose {
			all = append(all, "")
		}
		all = append(all, lines...)
	}
	return all
}

func (r renderer) block(n ast.Node, width int) []string {
	width = max(1, width) // what is nested deeply has no room left
	switch n := n.(type) {
	case *ast.Heading:
		return r.heading(n, width)
	case *ast.Paragraph, *ast.TextBlock:
		return r.paragraph(n, width)
	case *ast.FencedCodeBlock, *ast.CodeBlock:
		return r.code(n)
	case *ast.List:
		return r.list(n, width)
	case *ast.Blockquote:
		return indent(r.blocks(n, width-2, true), "│ ", "│ ")
	case *ast.ThematicBreak:
		return []string{r.paint.Faint(strings.Repeat("─", width))}
	case *extast.Table:
		return r.table(n, width)
	case *ast.HTMLBlock:
		return nil
	}
	return r.blocks(n, width, true)
}

// heading underlines a heading, so that it can be told from a sentence without colours.
func (r renderer) heading(n *ast.Heading, width int) []string {
	lines := wrap(r.inline(n, r.paint.Bold), width)
	widest := 0
	for _, line := range lines {
		widest = max(widest, lipgloss.Width(line))
	}
	rule := "─"
	if n.Level == 1 {
		rule = "═"
	}
	return append(lines, r.paint.Faint(strings.Repeat(rule, min(widest, width))))
}

func (r renderer) paragraph(n ast.Node, width int) []string {
	text := r.inline(n, plainly)
	if strings.TrimSpace(text) == "" { // of HTML alone
		return nil
	}
	return wrap(text, width)
}

// code leaves lines as they are, indented, so that they can be selected and pasted.
func (r renderer) code(n ast.Node) []string {
	var lines []string
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		line := strings.TrimRight(string(segment.Value(r.source)), "\r\n")
		if strings.TrimSpace(line) == "" {
			lines = append(lines, "")
			continue
		}
		lines = append(lines, "    "+r.paint.SQL(words.Clean(strings.ReplaceAll(line, "\t", "    "))))
	}
	return lines
}

func (r renderer) list(n *ast.List, width int) []string {
	var all []string
	number := n.Start
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		marker := "- "
		if n.IsOrdered() {
			marker = strconv.Itoa(number) + ". "
			number++
		}
		if len(all) > 0 && !n.IsTight {
			all = append(all, "")
		}
		lines := r.blocks(c, width-len(marker), !n.IsTight)
		if len(lines) == 0 {
			lines = []string{""}
		}
		all = append(all, indent(lines, marker, strings.Repeat(" ", len(marker)))...)
	}
	return all
}

// table lays a table out, or as a list of its rows where it is wider than there is room.
func (r renderer) table(n ast.Node, width int) []string {
	var rows [][]string
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		var cells []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, strings.ReplaceAll(r.inline(cell, plainly), "\n", " "))
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		return nil
	}
	widths := make([]int, len(rows[0]))
	total := 2 * max(0, len(widths)-1)
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], lipgloss.Width(row[i]))
		}
	}
	for _, w := range widths {
		total += w
	}
	if total > width {
		return r.records(rows, width)
	}
	var lines []string
	for at, row := range rows {
		var line strings.Builder
		for i := range min(len(row), len(widths)) {
			cell := row[i]
			if at == 0 {
				cell = r.paint.Bold(cell)
			}
			line.WriteString(cell + strings.Repeat(" ", widths[i]-lipgloss.Width(row[i])+2))
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// records writes each row below the ones before it, each cell after its header.
func (r renderer) records(rows [][]string, width int) []string {
	headers, all := rows[0], []string(nil)
	for at, row := range rows[1:] {
		if at > 0 {
			all = append(all, "")
		}
		marker := "- "
		for i, cell := range row {
			if cell == "" {
				continue
			}
			if i < len(headers) && headers[i] != "" {
				cell = spaced(headers[i]+":", r.paint.Bold) + " " + cell
			}
			all = append(all, indent(wrap(cell, width-2), marker, "  ")...)
			marker = "  "
		}
	}
	return all
}

// inline returns the text of what a block holds, with "\n" where a line must end. Each
// word is styled by itself, so that lines can be broken between any two.
func (r renderer) inline(n ast.Node, style func(string) string) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.WriteString(spaced(r.words(c), style))
			switch {
			case c.HardLineBreak():
				b.WriteString("\n")
			case c.SoftLineBreak():
				b.WriteString(" ")
			}
		case *ast.String:
			b.WriteString(spaced(words.Clean(string(c.Value)), style))
		case *ast.CodeSpan:
			b.WriteString(spaced("`"+r.codeSpan(c)+"`", r.paint.SQL))
		case *ast.Emphasis:
			if c.Level > 1 {
				b.WriteString(r.inline(c, r.paint.Bold))
			} else {
				b.WriteString(r.inline(c, style))
			}
		case *ast.Link:
			b.WriteString(r.inline(c, style))
			if shown := r.link(string(c.Destination)); shown != "" {
				b.WriteString(" (" + words.Clean(shown) + ")")
			}
		case *ast.AutoLink:
			b.WriteString(words.Clean(string(c.URL(r.source))))
		case *ast.RawHTML:
		default: // an image is its words
			b.WriteString(r.inline(c, style))
		}
	}
	return b.String()
}

// words are the text of a node, its escapes and entities resolved.
func (r renderer) words(n *ast.Text) string {
	value := n.Value(r.source)
	if !n.IsRaw() {
		value = util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(value)))
	}
	return words.Clean(strings.ReplaceAll(string(value), "\t", " "))
}

func (r renderer) codeSpan(n ast.Node) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.WriteString(strings.ReplaceAll(string(t.Value(r.source)), "\n", " "))
		}
	}
	return words.Clean(b.String())
}

// spaced styles each word of a text.
func spaced(s string, style func(string) string) string {
	parts := strings.Split(s, " ")
	for i, part := range parts {
		parts[i] = style(part)
	}
	return strings.Join(parts, " ")
}

// plainly leaves a text without a style.
func plainly(s string) string { return s }

// wrap breaks a text at its line ends, and between words.
func wrap(s string, width int) []string {
	var lines []string
	for part := range strings.SplitSeq(s, "\n") {
		lines = append(lines, terminal.WrapWords(strings.Join(strings.Fields(part), " "), width)...)
	}
	return lines
}

// indent begins the first line with one text and each further one with another.
func indent(lines []string, first, others string) []string {
	indented := make([]string, len(lines))
	for i, line := range lines {
		if indented[i] = others + line; i == 0 {
			indented[i] = first + line
		}
	}
	return indented
}
