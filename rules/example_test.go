package rules_test

import (
	"fmt"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules"
)

func ExampleCompile() {
	file, err := config.LoadBytes("rules.yaml", []byte(`
rules:
  - name: hot
    from: plant/+/temp
    where: temperature > 80 && unit == "C"
    emit:
      stream: alerts
      topic: "alerts/{rule}"
      fields: {machine: level(1), fahrenheit: temperature * 9 / 5 + 32}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := rules.Compile(file.Child("rules").Items())
	if err != nil {
		fmt.Println(err) // every mistake with its line and a caret
		return
	}
	var result rules.Result
	set.Engine(rules.EventsStream).Step([]event.Event{
		{Offset: 1, Topic: "plant/7/temp", Payload: []byte(`{"temperature": 79, "unit": "C"}`)},
		{Offset: 2, Topic: "plant/7/temp", Payload: []byte(`{"temperature": 85, "unit": "C"}`)},
		{Offset: 3, Topic: "plant/7/temp", Payload: []byte(`{"temperature": "n/a"}`)},
	}, &result)
	for _, o := range result.Outputs {
		fmt.Printf("%s: %s %s\n", o.Stream, o.Event.Topic, o.Event.Payload)
	}
	for _, f := range result.Failures {
		fmt.Printf("rule %s failed on event %d: %v\n", f.Rule, f.Event.Offset, f.Err)
	}
	// Output:
	// alerts: alerts/hot {"machine":"7","fahrenheit":185}
	// rule hot failed on event 3: where: field "temperature" is text, not a number
}
