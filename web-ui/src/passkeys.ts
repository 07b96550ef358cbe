// Passkeys: a form asks the box for a question, has the device answer it, and sends itself with the answer inside.
import { fromBase64Url, toBase64Url } from "./base64url.ts";

/** Takes over the forms marked `data-passkey`; without WebAuthn they say so. */
export function offerPasskeys(): void {
  for (const form of document.querySelectorAll<HTMLFormElement>("form[data-passkey]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void answer(form);
    });
  }
}

async function answer(form: HTMLFormElement): Promise<void> {
  const say = (which: string, shown: boolean): void => {
    const found = form.querySelector<HTMLElement>(`[data-passkey-${which}]`);
    if (found) found.hidden = !shown;
  };
  say("failed", false);
  if (typeof PublicKeyCredential === "undefined") return say("none", true);
  const button = form.querySelector<HTMLButtonElement>("button");
  if (button) button.disabled = true;
  try {
    const question = await ask(form);
    if (question === null) return;
    const given =
      form.dataset["passkey"] === "create"
        ? await navigator.credentials.create({ publicKey: toMake(question as CreationJson) })
        : await navigator.credentials.get({ publicKey: toSign(question as RequestJson) });
    const field = form.querySelector<HTMLInputElement>("[name=answer]");
    if (!(given instanceof PublicKeyCredential) || !field) return say("failed", true);
    field.value = JSON.stringify(written(given));
    form.submit();
  } catch {
    say("failed", true); // cancelled, timed out, or refused by the device: the browser has said which
  } finally {
    if (button) button.disabled = false;
  }
}

/** The question, or null when the page has been sent elsewhere. */
async function ask(form: HTMLFormElement): Promise<CreationJson | RequestJson | null> {
  const token = form.querySelector<HTMLInputElement>("[name=csrf]")?.value ?? "";
  const said = await fetch(form.dataset["question"] ?? "", {
    method: "POST",
    headers: { "X-CSRF-Token": token },
    redirect: "error",
  });
  if (said.status === 401) {
    location.assign("/sign-in");
    return null;
  }
  if (!said.ok) throw new Error(String(said.status));
  return (await said.json()) as CreationJson | RequestJson;
}

function toMake(json: CreationJson): PublicKeyCredentialCreationOptions {
  return {
    ...json,
    challenge: fromBase64Url(json.challenge),
    user: { ...json.user, id: fromBase64Url(json.user.id) },
    excludeCredentials: (json.excludeCredentials ?? []).map(descriptor),
  };
}

function toSign(json: RequestJson): PublicKeyCredentialRequestOptions {
  return {
    ...json,
    challenge: fromBase64Url(json.challenge),
    allowCredentials: (json.allowCredentials ?? []).map(descriptor),
  };
}

function descriptor(json: DescriptorJson): PublicKeyCredentialDescriptor {
  return { ...json, id: fromBase64Url(json.id) };
}

/** A credential as WebAuthn's own `toJSON` writes it, which not every browser of a clinic has yet. */
function written(given: PublicKeyCredential): object {
  const { response } = given;
  const shared = { id: given.id, rawId: toBase64Url(given.rawId), type: given.type, clientExtensionResults: {} };
  const clientDataJSON = toBase64Url(response.clientDataJSON);
  if (response instanceof AuthenticatorAttestationResponse) {
    const attestationObject = toBase64Url(response.attestationObject);
    return { ...shared, response: { clientDataJSON, attestationObject, transports: response.getTransports() } };
  }
  const signed = response as AuthenticatorAssertionResponse;
  return {
    ...shared,
    response: {
      clientDataJSON,
      authenticatorData: toBase64Url(signed.authenticatorData),
      signature: toBase64Url(signed.signature),
      userHandle: signed.userHandle ? toBase64Url(signed.userHandle) : null,
    },
  };
}

interface DescriptorJson {
  id: string;
  type: "public-key";
  transports?: AuthenticatorTransport[];
}

interface CreationJson extends Omit<PublicKeyCredentialCreationOptions, "challenge" | "user" | "excludeCredentials"> {
  challenge: string;
  user: { id: string; name: string; displayName: string };
  excludeCredentials?: DescriptorJson[];
}

interface RequestJson extends Omit<PublicKeyCredentialRequestOptions, "challenge" | "allowCredentials"> {
  challenge: string;
  allowCredentials?: DescriptorJson[];
}
