package recipe

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSnippets parses every YAML block of docs/recipe.md, with a name and an image where it shows neither.
func TestSnippets(t *testing.T) {
	docs, err := os.ReadFile("../../../docs/recipe.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(docs), "```yaml\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for i, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if strings.HasPrefix(text, "extends: ") {
			if _, _, err := compose(map[string]string{"main.yaml": text}, Variant{}); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
			continue
		}
		if !strings.HasPrefix(text, "name: ") {
			if !strings.Contains(text, "packages:") {
				text = "packages: {repositories: [/packages]}\n" + text
			}
			text = minimal + text
		}
		if _, err := Parse(fmt.Sprintf("block %d of recipe.md", i+1), []byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
