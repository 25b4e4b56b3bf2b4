package recipe

import (
	_ "embed"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema of recipes, draft 2020-12. A test generates it from the types here
// and the tables of docs/recipe.md.
func Schema() []byte { return schema }

// JSON returns a recipe's text as JSON, its keys in their order.
func JSON(text []byte) ([]byte, error) {
	n, err := strictyaml.Parse("recipe", text)
	if err != nil {
		return nil, err
	}
	return n.MarshalJSON()
}
