package terminal

import tea "charm.land/bubbletea/v2"

// For the tests of this package.
var TimeLeft = timeLeft

// NewDialog is the model with which Show shows a page.
func NewDialog(page Page) tea.Model {
	return &dialog{page: page, size: Size{assumedWidth, assumedHeight}}
}
