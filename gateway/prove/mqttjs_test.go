//go:build prove

package prove

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mqttJS publishes to itself over WebSocket, and comes back to its session.
const mqttJS = `
const mqtt = require('mqtt');
const [url, version] = [process.argv[2], Number(process.argv[3])];
const options = id => ({clientId: id, protocolVersion: version, clean: false, reconnectPeriod: 0,
  properties: version === 5 ? {sessionExpiryInterval: 60, receiveMaximum: 20, topicAliasMaximum: 10} : undefined});
const connect = (id, got) => new Promise((resolve, reject) => {
  const c = mqtt.connect(url, options(id));
  c.on('message', (topic, payload) => got.push(topic + ' ' + payload));
  c.on('error', reject);
  c.on('connect', ack => resolve([c, ack.sessionPresent]));
});
const until = async (what, ok) => {
  for (const end = Date.now() + 10000; !ok(); await new Promise(r => setTimeout(r, 5)))
    if (Date.now() > end) throw new Error('not in time: ' + what);
};
const same = (got, want) => { if (got.join() !== want.join()) throw new Error('got ' + got.join(', ')); };
(async () => {
  const n = 200;
  const [from] = await connect('from' + version, []);
  for (const qos of [0, 1, 2]) {
    const topic = 'js/' + version + '/' + qos, id = 'to' + version + qos, first = [], second = [];
    let [to, present] = await connect(id, first);
    if (present) throw new Error('session present at first');
    await to.subscribeAsync(topic, {qos});
    const want = [...Array(n).keys()].map(i => topic + ' ' + i);
    await Promise.all([...Array(n).keys()].map(i => from.publishAsync(topic, String(i), {qos})));
    await until('messages at QoS ' + qos, () => first.length >= n);
    same(first, want);
    await to.endAsync();
    if (qos > 0) {
      await Promise.all([...Array(n).keys()].map(i => from.publishAsync(topic, String(i), {qos})));
      [to, present] = await connect(id, second);
      if (!present) throw new Error('no session present');
      await until('what was missed at QoS ' + qos, () => second.length >= n);
      same(second, want);
      await to.endAsync();
    }
  }
  await from.endAsync();
})().then(() => process.exit(0), e => { console.error(e); process.exit(1); });
`

func TestMQTTJSWorksOverWebSocket(t *testing.T) {
	needTools(t, "node", "npm")
	dir := folder(t)
	if out, err := exec.Command("npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "mqtt@5.16.0").CombinedOutput(); err != nil {
		cannot(t, "MQTT.js cannot be installed: %v\n%s", err, out)
	}
	script := filepath.Join(dir, "proof.js")
	if err := os.WriteFile(script, []byte(mqttJS), 0o644); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "", "")
	web := freeAddr()
	text, err := os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("mqtt: {listen: [%q, {address: %q, websocket: {path: /mqtt}}]}", g.mqtt, web)
	text = []byte(strings.Replace(string(text), fmt.Sprintf("mqtt: {listen: %q}", g.mqtt), listen, 1))
	if err := os.WriteFile(g.configPath(), text, 0o644); err != nil {
		t.Fatal(err)
	}
	g.mustStart(t)
	for _, version := range []string{"4", "5"} {
		cmd := exec.Command("node", script, "ws://"+web+"/mqtt", version)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("MQTT.js with version %s: %v\n%s", version, err, out)
		}
	}
	t.Logf("MQTT.js over WebSocket in MQTT 3.1.1 and 5: all messages at QoS 0, 1 and 2 in order, what was missed as well")
}
